"""Files of Hugging Face's hub: from its cache, or downloaded into it, where the hub's own programs find them, too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, build_opener

from openvocab.files.user_cache import cache_folder

CONNECT_SECONDS = 3.0
"""How long the hub may take to answer a first request, before its cache is used."""


def hub_file(repository: str, names: Sequence[str]) -> Path:
    """Return the path of the first of several files that a repository has: put there by hand, or in the hub's cache.

    A file that a user has put at `hand_path` is taken as it is. A download shows a progress bar, and is continued where
    a connection is cut. Without a network, or with HF_HUB_OFFLINE=1, the cache is searched; an unreachable hub is
    noticed within seconds.

    Args:
        repository: OWNER/NAME, or OWNER/NAME@REVISION for a branch, tag or commit.
        names: files, in the order of preference.

    Raises:
        FileNotFoundError: the repository has none of them, or the hub cannot be reached and its cache has none.
        PermissionError: the repository is gated or private, and the user's token does not open it.
        ConnectionError: the download was cut.
    """
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    for file in names:
        if hand_path(repository, file).is_file():
            return hand_path(repository, file)
    name, _, revision = repository.partition("@")
    page = f"{constants.ENDPOINT}/{name}"
    reachable = can_reach_hub()
    options: dict[str, Any] = dict(
        revision=revision or None, etag_timeout=CONNECT_SECONDS, local_files_only=not reachable
    )
    for file in names:
        try:
            return Path(hf_hub_download(name, file, **options))
        except LocalEntryNotFoundError as error:
            if reachable:  # the cache was the last resort
                raise _cut(repository, file, error) from error
        except EntryNotFoundError:
            continue
        except GatedRepoError as error:
            raise PermissionError(
                f"hf-hub:{repository} is gated: accept its conditions at {page}, then log in with `hf auth login` or "
                "set HF_TOKEN"
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise FileNotFoundError(
                f"hf-hub:{repository}: the hub has no such repository or revision, or it is private: log in with "
                "`hf auth login` or set HF_TOKEN"
            ) from error
        except HFValidationError as error:
            raise FileNotFoundError(f"hf-hub:{repository} is no name of a repository, OWNER/NAME") from error
        except Exception as error:  # the client lets through the errors of its HTTP library, of which it has had three
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise  # a full disk, a folder without permission
            raise _cut(repository, file, error) from error
    listed, path = " or ".join(names), hand_path(repository, names[0])
    where = f"at {path}" if len(names) == 1 else f"into {path.parent}"
    if reachable:
        raise FileNotFoundError(f"hf-hub:{repository} has no {listed}")
    raise FileNotFoundError(
        f"hf-hub:{repository} is not in the hub's cache, and {urlsplit(constants.ENDPOINT).hostname} cannot be "
        f"reached; download {listed} from {page}, and put it {where}"
    )


def hand_path(repository: str, file: str) -> Path:
    """Return where a user puts a file of a repository that this machine cannot download."""
    return cache_folder() / "hub" / repository / file


def can_reach_hub() -> bool:
    """Return whether the hub may be asked (not with HF_HUB_OFFLINE=1) and answers within seconds."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and can_reach(constants.ENDPOINT)


def can_reach(address: str) -> bool:
    """Return whether a server answers at an address within seconds, directly or through the proxy that is set."""
    try:
        # an opener of its own: the one of `urlopen` keeps the proxies of its first use
        with build_opener().open(Request(address, method="HEAD"), timeout=CONNECT_SECONDS):
            return True
    except HTTPError:  # an answer, too
        return True
    except OSError:
        return False


def _cut(repository: str, file: str, error: BaseException) -> ConnectionError:
    """Return the error of a download that was cut, with the name of the error at the root of the client's."""
    while error.__cause__ is not None:
        error = error.__cause__
    cause = type(error).__name__
    return ConnectionError(f"hf-hub:{repository}: the download of {file} was cut ({cause}); run the command again")
