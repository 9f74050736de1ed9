"""Cache of text embeddings: encoding 1203 names x 80 templates takes minutes, reading them milliseconds."""

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
"""Exceptions that parsing a truncated, foreign or corrupt file raises."""


class EmbeddingCache:
    """One row per name, in memory and, if a folder is given, on disk.

    Rows are stored under a key, the digest of everything that they depend on apart from their name: weights, tokenizer,
    templates, numerics. Other weights have another key, so nothing needs to be invalidated. On disk, each batch of new
    rows is one immutable file, `<key>/<digest of its names>.safetensors`, so any number of processes may write at the
    same time. A file that fails its checksum is skipped with a warning.

    Args:
        folder: where rows are kept between runs; default: in memory only.
        max_rows: maximum number of rows in memory; the least recently used ones are dropped first.
    """

    def __init__(self, folder: str | Path | None = None, max_rows: int = 100_000) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.max_rows = max_rows
        self._rows: OrderedDict[tuple[str, str], Tensor] = OrderedDict()
        self._files_read: set[tuple[str, int, int]] = set()

    def find(self, key: str, names: Iterable[str]) -> dict[str, Tensor]:
        """Return the cached rows of `names`: {name: (D,) float32 on the CPU}."""
        names = list(names)
        rows = self._find_in_memory(key, names)
        if self.folder is None or len(rows) == len(names):
            return rows
        missing = {name for name in names if name not in rows}
        for new_rows in self._read_new_files(self.folder, key):
            rows.update({name: new_rows[name] for name in missing & new_rows.keys()})
        return rows

    def add(self, key: str, rows: Mapping[str, Tensor]) -> None:
        """Store `rows`, {name: (D,) float32 on the CPU}; if the folder cannot be written, only warn."""
        if not rows:
            return
        self._store(key, rows)
        if self.folder is None:
            return
        try:
            _write_rows(_file_of(self.folder, key, rows), key, rows)
        except OSError as error:
            logger.warning(f"text embeddings are not kept on disk: {error}")

    def clear_memory(self) -> None:
        """Drop the rows in memory; files stay."""
        self._rows.clear()
        self._files_read.clear()

    def _find_in_memory(self, key: str, names: list[str]) -> dict[str, Tensor]:
        rows = {}
        for name in names:
            row = self._rows.get((key, name))
            if row is not None:
                self._rows.move_to_end((key, name))
                rows[name] = row
        return rows

    def _store(self, key: str, rows: Mapping[str, Tensor]) -> None:
        for name, row in rows.items():
            self._rows[key, name] = row
        while len(self._rows) > self.max_rows:
            self._rows.popitem(last=False)

    def _read_new_files(self, folder: Path, key: str) -> Iterable[dict[str, Tensor]]:
        """Yield the rows of every file under `key` that this object has not read before."""
        for path in sorted((folder / key[:32]).glob("*.safetensors")):
            try:
                status = path.stat()
                version = (str(path), status.st_mtime_ns, status.st_size)
                # With a full memory, rows of this file may have been dropped since.
                if version in self._files_read and len(self._rows) < self.max_rows:
                    continue
                self._files_read.add(version)
                rows = _read_rows(path, key)
            except UNREADABLE as error:
                message = f"{path} is not a readable embedding file ({error}); its names are encoded again"
                logger.warning(message)
                continue
            self._store(key, rows)
            yield rows


def _file_of(folder: Path, key: str, names: Iterable[str]) -> Path:
    digest = hashlib.sha256(json.dumps(list(names)).encode()).hexdigest()
    return folder / key[:32] / f"{digest[:32]}.safetensors"


def _checksum(key: str, names: str, rows: Tensor) -> str:
    digest = hashlib.sha256(f"{key}\n{names}\n{tuple(rows.shape)}\n".encode())
    digest.update(rows.numpy().data)
    return digest.hexdigest()


def _write_rows(path: Path, key: str, rows: Mapping[str, Tensor]) -> None:
    """Write one file atomically."""
    table = torch.stack(list(rows.values())).float().contiguous()  # (R, D)
    names = json.dumps(list(rows))
    metadata = {"key": key, "names": names, "checksum": _checksum(key, names, table)}
    content = safetensors.torch.save({"rows": table}, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        file.write(content)


def _read_rows(path: Path, key: str) -> dict[str, Tensor]:
    """Return {name: (D,)} of one file; raise `ValueError` or another of `UNREADABLE` if it is corrupt."""
    content = read_regular(path)  # not mapped: the reader must not crash if the file is replaced or cut
    table = safetensors.torch.load(content)["rows"]
    header_size = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + header_size])["__metadata__"]
    if metadata["key"] != key:
        raise ValueError("it belongs to another text encoder")
    if metadata["checksum"] != _checksum(key, metadata["names"], table):
        raise ValueError("its checksum does not match its content")
    return dict(zip(json.loads(metadata["names"]), table, strict=True))
