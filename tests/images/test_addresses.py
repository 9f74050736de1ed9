"""Images by their addresses, from a server on loopback."""

import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from openvocab.images import addresses
from openvocab.images.image_input import rgb_image
from openvocab.images.image_io import BadSample

PHOTO = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.fixture
def server(monkeypatch):
    """The address of a server."""
    content = io.BytesIO()
    Image.fromarray(PHOTO).save(content, "PNG")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            photo, place = content.getvalue(), self.path
            if place == "/moved":
                self.send_response(302)
                self.send_header("Location", "/photo.png")
            elif place == "/to-file":
                self.send_response(302)
                self.send_header("Location", "file:///etc/passwd")
            elif place == "/gone":
                self.send_response(404)
            else:
                self.send_response(200)
                self.send_header("Content-Length", str(len(photo)))
            self.end_headers()
            if place in ("/photo.png", "/cut", "/sch%C3%B6n%20neu.png?a=%C3%A4&b=%20"):
                self.wfile.write(photo[: 40 if place == "/cut" else None])

        def log_message(self, *_):
            pass

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()


def test_an_image_is_fetched(server):
    for address in (f"{server}/photo.png", f"{server}/moved", Path(f"{server}/photo.png")):
        assert np.array_equal(rgb_image(address), PHOTO)


def test_addresses_may_have_spaces_and_letters_of_all_languages(server):
    for address in (f"{server}/sch\u00f6n neu.png?a=\u00e4&b= ", f"{server}/sch%C3%B6n%20neu.png?a=%C3%A4&b=%20#part"):
        assert np.array_equal(rgb_image(address), PHOTO)


@pytest.mark.parametrize(
    "place, message",
    [
        ("/gone", "the server answers 404"),
        ("/cut", "the connection was cut|cannot be fetched"),
        ("/to-file", "file:///etc/passwd|unknown url type|302"),
    ],
)
def test_a_failure_is_one_line_with_the_address(server, place, message):
    with pytest.raises(BadSample, match=message) as error:
        rgb_image(server + place)
    assert server in str(error.value) and "\n" not in str(error.value)


def test_a_large_file_and_a_missing_server_are_errors(server, monkeypatch):
    monkeypatch.setattr(addresses, "MAX_BYTES", 100)
    with pytest.raises(BadSample, match="larger than"):
        rgb_image(f"{server}/photo.png")
    with pytest.raises(BadSample, match="cannot be fetched"):
        rgb_image("http://127.0.0.1:9/photo.png")
