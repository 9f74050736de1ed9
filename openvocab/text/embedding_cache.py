"""Text embeddings kept by content: encoding 1203 names x 80 templates takes minutes, reading them milliseconds."""

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from openvocab.files.atomic_files import replacing
from openvocab.files.regular_files import read_regular

logger = logging.getLogger(__name__)

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError)
"""What a truncated, foreign or corrupt file raises while it is parsed."""


class EmbeddingCache:
    """One row a name, in memory and, given a folder, on disk.

    A row is kept under a key, the digest of everything it depends on besides its name: weights, tokenizer, templates,
    numerics. Other weights are another key, so there is nothing to invalidate. On disk each batch of new rows is one
    file that is never changed, `<key>/<digest of its names>.safetensors`: a new name adds a small file, and any number
    of processes may write at once. A file that fails its checksum is passed over with a warning.

    Args:
        folder: where to keep rows between runs; None keeps them in memory only.
        max_rows: rows kept in memory; the longest unused go first.
    """

    def __init__(self, folder: str | Path | None = None, max_rows: int = 100_000) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.max_rows = max_rows
        self._rows: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._files_read: set[tuple[str, int, int]] = set()

    def find(self, key: str, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the known rows among `names`: {name: (D,) float32 on the CPU}."""
        names = list(names)
        found = self._find_in_memory(key, names)
        if self.folder is None or len(found) == len(names):
            return found
        wanted = {name for name in names if name not in found}
        for rows in self._read_new_files(key):
            found.update({name: rows[name] for name in wanted & rows.keys()})
        return found

    def add(self, key: str, rows: Mapping[str, Tensor]) -> None:
        """Keep `rows`, {name: (D,) float32 on the CPU}; a folder that cannot be written costs a warning only."""
        if not rows:
            return
        self._remember(key, rows)
        if self.folder is None:
            return
        try:
            _write_rows(self._file(key, rows), key, rows)
        except OSError as error:
            logger.warning(f"text embeddings are not kept on disk: {error}")

    def clear_memory(self) -> None:
        """Forget the rows in memory; files stay."""
        self._rows.clear()
        self._files_read.clear()

    def _find_in_memory(self, key: str, names: list[str]) -> dict[str, Tensor]:
        found = {}
        for name in names:
            row = self._rows.get((key, name))
            if row is not None:
                self._rows.move_to_end((key, name))
                found[name] = row
        return found

    def _remember(self, key: str, rows: Mapping[str, Tensor]) -> None:
        for name, row in rows.items():
            self._rows[key, name] = row
        while len(self._rows) > self.max_rows:
            self._rows.popitem(last=False)

    def _file(self, key: str, names: Iterable[str]) -> Path:
        digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
        return self.folder / key[:32] / f"{digest[:32]}.safetensors"

    def _read_new_files(self, key: str) -> Iterable[dict[str, Tensor]]:
        """Yield the rows of every file under `key` that this object has not read before."""
        for path in sorted((self.folder / key[:32]).glob("*.safetensors")):
            try:
                status = path.stat()
                seen = (str(path), status.st_mtime_ns, status.st_size)
                if seen in self._files_read and len(self._rows) < self.max_rows:
                    continue
                self._files_read.add(seen)
                rows = _read_rows(path, key)
            except UNREADABLE as error:
                message = f"{path} is not a readable embedding file ({error}); its names are encoded again"
                logger.warning(message)
                continue
            self._remember(key, rows)
            yield rows


def _checksum(key: str, names: str, rows: Tensor) -> str:
    digest = hashlib.sha256(f"{key}\n{names}\n{tuple(rows.shape)}\n".encode())
    digest.update(rows.numpy())
    return digest.hexdigest()


def _write_rows(path: Path, key: str, rows: Mapping[str, Tensor]) -> None:
    """Write one file; a reader sees it whole or not at all."""
    table = torch.stack(list(rows.values())).float().contiguous()  # (R, D)
    names = json.dumps(list(rows))
    metadata = {"key": key, "names": names, "checksum": _checksum(key, names, table)}
    content = safetensors.torch.save({"rows": table}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(content)


def _read_rows(path: Path, key: str) -> dict[str, Tensor]:
    """Return {name: (D,)} of one file; `ValueError` (or another of `UNREADABLE`) if it is not what was written."""
    content = read_regular(path)  # not mapped: a file replaced or cut meanwhile must not crash the reader
    table = safetensors.torch.load(content)["rows"]
    header_size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + header_size])["__metadata__"]
    if metadata["key"] != key:
        raise ValueError("it belongs to another text encoder")
    if metadata["checksum"] != _checksum(key, metadata["names"], table):
        raise ValueError("its checksum does not match its content")
    return dict(zip(json.loads(metadata["names"]), table, strict=True))
