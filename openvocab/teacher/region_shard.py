"""One file of a region cache: the regions of some hundred images."""

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
from openvocab.structures import Regions, Size

FORMAT = "openvocab-regions-2"
OLD_FORMAT = "openvocab-regions-1"
"""Without checksums."""
TENSORS = ("first", "sizes", "boxes", "objectness", "embed")
EMBED_DTYPES = {"float16": torch.float16, "float32": torch.float32}


def write_shard(
    path: Path, header: dict[str, Any], regions: Sequence[Regions], sizes: Sequence[Size], embed_dtype: str
) -> None:
    """Write a shard with its checksum, whole or not at all; equal arguments make equal bytes.

    Args:
        header: what the shard is of; see `read_header`.
        sizes: (height, width) of each image.
        embed_dtype: a key of `EMBED_DTYPES`.
    """
    counts = torch.tensor([0, *(len(of_image.boxes) for of_image in regions)])
    tensors = {
        "first": counts.cumsum(0),  # (I + 1,): image i has the rows first[i] to first[i + 1]
        "sizes": torch.tensor(sizes, dtype=torch.int64),  # (I, 2)
        "boxes": torch.cat([of_image.boxes for of_image in regions]),  # (M, 4)
        "objectness": torch.cat([of_image.objectness for of_image in regions]),  # (M,)
        "embed": torch.cat([of_image.embed for of_image in regions]).to(EMBED_DTYPES[embed_dtype]),  # (M, D)
    }
    header = {**header, "checksum": _checksum(header, tensors)}
    # One entry: safetensors does not keep the order of several
    content = safetensors.torch.save(tensors, {FORMAT: json.dumps(header)})
    with replacing(path, "wb") as file:
        file.write(content)


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a shard, of an older format too; None where the file is missing, cut off or no shard."""
    if not path.is_file():  # of a pipe safetensors would wait for a writer
        return None
    try:
        with safe_open(path, framework="pt") as shard:
            metadata = shard.metadata() or {}
            header = json.loads(metadata.get(FORMAT) or metadata[OLD_FORMAT])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def is_whole(path: Path) -> bool:
    """Tell whether a shard holds what was written, by its checksum; all of it is read."""
    return _whole_header(path) is not None


def _whole_header(path: Path) -> dict[str, Any] | None:
    """Return the header of a shard that is whole, without its checksum; None for any other file."""
    header = read_header(path)
    if header is None or "checksum" not in header:
        return None
    checksum = header.pop("checksum")
    try:
        with safe_open(path, framework="pt") as shard:
            is_as_written = checksum == _checksum(header, {name: shard.get_tensor(name) for name in TENSORS})
    except (OSError, SafetensorError, ValueError, TypeError):  # TypeError: tensors of a type that NumPy lacks
        return None
    return header if is_as_written else None


def _checksum(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in TENSORS:
        digest.update(f"\n{name} {tensors[name].dtype} {tuple(tensors[name].shape)}\n".encode())
        digest.update(tensors[name].numpy())
    return digest.hexdigest()


class RegionShard:
    """A shard opened for reading, memory-mapped. It is compared with its checksum once, here (20 ms for 30 MB).

    Args:
        expected: the description and the sample ids of the cache that it belongs to: a file copied from another cache
            is as whole.

    Raises:
        ValueError: missing, no shard, not what was written, or of another cache; the message says how to repair it.
    """

    def __init__(self, path: Path, expected: Mapping[str, Any]) -> None:
        header = _whole_header(path)
        if header is None:
            raise ValueError(damaged(path))
        if any(header.get(key) != value for key, value in expected.items()):
            raise ValueError(f"{path} is of another cache; remove it and run tools/cache_region_embeddings.py again")
        self._file = safe_open(path, framework="pt")
        self._first, self._sizes = self._file.get_tensor("first").tolist(), self._file.get_tensor("sizes").tolist()

    def regions(self, row: int) -> Regions:
        """Return the regions of image number `row`, copied from the file."""
        rows = slice(self._first[row], self._first[row + 1])
        boxes, objectness, embed = (self._file.get_slice(name)[rows] for name in ("boxes", "objectness", "embed"))
        return Regions(boxes.clone(), embed.to(torch.float32, copy=True), objectness.clone())

    def size(self, row: int) -> Size:
        """Return (height, width) of image number `row`."""
        return tuple(self._sizes[row])


def damaged(path: Path) -> str:
    """Return the message for a shard that cannot be read."""
    return (
        f"{path} is missing or damaged; run tools/cache_region_embeddings.py again: it makes such files anew, no others"
    )
