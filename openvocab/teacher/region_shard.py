"""A file of a region cache, with the regions of about a hundred images."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from openvocab.files.atomic_files import replacing
from openvocab.structures import Regions, Size, known

FORMAT = "openvocab-regions-2"
OLD_FORMAT = "openvocab-regions-1"
"""Shards without checksums."""
TENSORS = ("first", "sizes", "boxes", "objectness", "embed")
EMBED_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def write_shard(
    path: Path, header: dict[str, Any], regions: Sequence[Regions], sizes: Sequence[Size], embed_dtype: str
) -> None:
    """Write a shard with its checksum, whole or not at all; equal arguments give equal bytes.

    Args:
        path: path of the file.
        header: the description of the cache and the sample ids of the I images; plain values.
        regions: regions of each image, with objectness.
        sizes: (height, width) of each image.
        embed_dtype: a key of `EMBED_DTYPES`.
    """
    counts = torch.tensor([0, *(len(of_image.boxes) for of_image in regions)])
    tensors = {
        "first": counts.cumsum(0),  # (I + 1,): the rows of image i are first[i] to first[i + 1]
        "sizes": torch.tensor(sizes, dtype=torch.int64),  # (I, 2)
        "boxes": torch.cat([of_image.boxes for of_image in regions]),  # (M, 4)
        "objectness": torch.cat([known(of_image.objectness, "objectness of regions") for of_image in regions]),  # (M,)
        "embed": torch.cat([of_image.embed for of_image in regions]).to(EMBED_DTYPES[embed_dtype]),  # (M, D)
    }
    header = {**header, "checksum": _checksum(header, tensors)}
    # a single entry: safetensors does not keep the order of several, so that the bytes would vary
    content = safetensors.torch.save(tensors, {FORMAT: json.dumps(header)})
    with replacing(path, "wb") as file:
        file.write(content)


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a shard, also of an older format; None if the file is missing, cut off or no shard."""
    if not path.is_file():  # safetensors would wait for the writer of a pipe
        return None
    try:
        with safe_open(path, framework="pt") as shard:
            metadata = shard.metadata() or {}
            header = json.loads(metadata.get(FORMAT) or metadata[OLD_FORMAT])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def is_whole(path: Path) -> bool:
    """Return whether a shard matches its checksum; the whole file is read."""
    return _whole_header(path) is not None


def _whole_header(path: Path) -> dict[str, Any] | None:
    """Return the header, without its checksum, of a shard that matches it; None for any other file."""
    header = read_header(path)
    if header is None or "checksum" not in header:
        return None
    checksum = header.pop("checksum")
    try:
        with safe_open(path, framework="pt") as shard:
            is_unchanged = checksum == _checksum(header, {name: shard.get_tensor(name) for name in TENSORS})
    except (OSError, SafetensorError, ValueError, TypeError):  # TypeError: tensors of a type that NumPy lacks
        return None
    return header if is_unchanged else None


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of a header and of the dtypes, shapes and values of the tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in TENSORS:
        digest.update(f"\n{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()


class RegionShard:
    """A shard opened for reading, memory-mapped. Its checksum is verified once, here (20 ms for 30 MB).

    Args:
        path: path of the file.
        expected: the description and the sample ids of the cache that it belongs to: the checksum of a file that was
            copied from another cache is correct too.

    Raises:
        ValueError: a file that is missing, no shard, changed, or of another cache; the message tells the repair.
    """

    def __init__(self, path: Path, expected: Mapping[str, Any]) -> None:
        header = _whole_header(path)
        if header is None:
            raise ValueError(damaged(path))
        if any(header.get(key) != value for key, value in expected.items()):
            raise ValueError(
                f"{path} belongs to another cache; remove it and run tools/cache_region_embeddings.py again"
            )
        self._file = safe_open(path, framework="pt")
        self._first, self._sizes = self._file.get_tensor("first").tolist(), self._file.get_tensor("sizes").tolist()

    def regions(self, row: int) -> Regions:
        """Return the N regions of image number `row`, copied from the file; embeddings (N, D) are float32."""
        rows = slice(self._first[row], self._first[row + 1])
        boxes, objectness, embed = (self._file.get_slice(name)[rows] for name in ("boxes", "objectness", "embed"))
        return Regions(boxes.clone(), embed.to(torch.float32, copy=True), objectness.clone())

    def size(self, row: int) -> Size:
        """Return (height, width) of image number `row`."""
        height, width = self._sizes[row]
        return height, width


def damaged(path: Path) -> str:
    """Return the message for a file of a cache that cannot be read."""
    return f"{path} is missing or damaged; run tools/cache_region_embeddings.py again: it rewrites such files only"
