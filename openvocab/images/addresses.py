"""Images by their addresses on the web."""

import os
import re
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from openvocab.images.image_io import BadSample
from openvocab.version import __version__

MAX_BYTES = 2**28
"""Largest file that is fetched: 256 MB."""
SECONDS = 20.0
"""How long a server may be silent."""
_HANDLERS = (
    ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor, HTTPRedirectHandler,
)  # fmt: skip
_ADDRESS = re.compile(r"(https?:)/{1,2}([^/\\])", re.IGNORECASE)


def is_address(image: Any) -> bool:
    """Return whether an image is given by its address on the web."""
    return isinstance(image, (str, os.PathLike)) and _ADDRESS.match(os.fsdecode(image)) is not None


def fetch(address: str) -> bytes:
    """Return the content of an address, http or https, directly or through the proxy that is set.

    A program that takes addresses from strangers should check where they lead: to its own network, for example.

    Raises:
        BadSample: there is no answer, an answer other than the file, or too large a file.
    """
    try:
        request = Request(_encoded(address), headers={"User-Agent": f"openvocab/{__version__}"})
        with _opener().open(request, timeout=SECONDS) as answer:
            content = answer.read(MAX_BYTES + 1)
            stated = int(answer.headers.get("Content-Length") or len(content))
    except HTTPError as error:
        raise BadSample(address, f"the server answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise BadSample(address, f"cannot be fetched ({getattr(error, 'reason', None) or error})") from error
    if len(content) > MAX_BYTES or stated > MAX_BYTES:
        raise BadSample(address, f"the file is larger than {MAX_BYTES >> 20} MB; download it and give its path")
    if len(content) < stated:
        raise BadSample(address, f"the connection was cut after {len(content)} of {stated} bytes")
    return content


def _encoded(address: str) -> str:
    """Return an address in the characters that requests have; people copy spaces and umlauts from browsers."""
    link = urlsplit(_ADDRESS.sub(r"\1//\2", address))  # pathlib makes one slash of two
    host = link.netloc if link.netloc.isascii() else link.netloc.encode("idna").decode()
    path, query = (quote(part, safe="%/:=&?~+!$,;'@()*[]") for part in (link.path, link.query))
    return urlunsplit((link.scheme, host, path, query, ""))


def _opener() -> OpenerDirector:
    """Return a client for http and https alone: a redirection must not lead to a file of this machine."""
    opener = OpenerDirector()
    for handler in _HANDLERS:
        opener.add_handler(handler())
    return opener
