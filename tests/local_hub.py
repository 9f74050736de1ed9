"""A small Hugging Face hub on loopback, and a cache of the test."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class LocalHub(dict[str, bytes]):
    """{"/OWNER/NAME/resolve/REVISION/FILE": content} that is served."""

    def __init__(self) -> None:
        super().__init__()
        self.gated: set[str] = set()
        """Repositories, OWNER/NAME, that refuse everybody."""
        self.cut_after: int | None = None
        """Connections are cut after this many bytes of a file."""
        self.created: dict[str, str] = {}
        """{OWNER/NAME: public or private} of the repositories that were created by uploads."""
        self.ranges: list[str] = []
        """The ranges that were asked for."""
        self.address = ""

    def add(self, repository: str, file: str, content: bytes | Path, revision: str = "main") -> None:
        """Serve a file of a repository."""
        content = content.read_bytes() if isinstance(content, Path) else content
        self[f"/{repository}/resolve/{revision}/{file}"] = content


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[LocalHub]:
    """Serve files, and let the hub's real client download them into a folder of the test."""
    files = LocalHub()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            content, error = files.get(self.path), "EntryNotFound"
            owner, name = (*self.path.split("/"), "", "")[1:3]
            gated = f"{owner}/{name}" in files.gated
            if gated:
                content, error = None, "GatedRepo"
            if content is None:
                self.send_response(403 if gated else 404)
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("X-Error-Code", error)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start, asked = 0, self.headers.get("Range")
            if asked and body:
                files.ranges.append(asked)
                start = int(asked.removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if body:
                stop = None if files.cut_after is None else start + files.cut_after
                self.wfile.write(content[start:stop])
                self.wfile.flush()
                if stop is not None and stop < len(content):
                    self.close_connection = True
                    self.connection.close()

        def do_POST(self):
            """Take an upload, whose files are all sent within the commit, as small ones are."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            repository = "/".join(self.path.split("/")[3:5])
            if files.gated and self.path == "/api/repos/create":
                self._send({"error": "no permission"}, 403)
            elif self.path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                files.created[name] = asked["visibility"]
                self._send({"url": f"{files.address}/{name}", "name": name})
            elif self.path == "/api/validate-yaml":
                self._send({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                names = [file["path"] for file in json.loads(body)["files"]]
                self._send({"files": [dict(path=name, uploadMode="regular", shouldIgnore=False) for name in names]})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files.add(repository, line["value"]["path"], base64.b64decode(line["value"]["content"]))
                address = f"{files.address}/{repository}/commit/{COMMIT}"
                self._send({"commitUrl": address, "commitOid": COMMIT, "success": True})
            else:
                self._send({"error": f"unexpected {self.path}"}, 404)

        def _send(self, answer: dict, status: int = 200) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    files.address = f"http://127.0.0.1:{server.server_port}"
    use_hub(monkeypatch, files.address, tmp_path / "hub cache")
    yield files
    server.shutdown()
    server.server_close()
    thread.join()


def use_hub(monkeypatch, address: str, cache: Path) -> None:
    """Let the hub's client use the hub at an address, and a cache."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
