"""Make the region cache of a dataset: shard by shard, by any number of processes, through any number of kills."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from openvocab.datasets.base import PipelineDataset
from openvocab.files.atomic_files import remove_leftovers, replacing
from openvocab.images.image_io import BadSample
from openvocab.structures import Regions, Size
from openvocab.teacher.region_cache import MANIFEST, NOT_READ, first_difference, manifest_text
from openvocab.teacher.region_embedder import RegionEmbedder
from openvocab.teacher.region_shard import EMBED_DTYPES, is_whole, read_header, write_shard

logger = logging.getLogger(__name__)

SHARD = "regions-{:05d}.safetensors"


@dataclass
class WrittenCache:
    """What `write_region_cache` has done."""

    num_shards: int
    num_new: int
    """Shards that this process has made."""
    is_finished: bool
    """False where other processes have shards left to make."""


def write_region_cache(
    dataset: PipelineDataset,
    embedder: RegionEmbedder,
    folder: str | Path,
    *,
    embed_dtype: str = "float16",
    images_per_shard: int = 100,
    skip_bad: bool = False,
    rank: int = 0,
    world_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> WrittenCache:
    """Write the regions of every image, and at last the manifest that makes a cache of the shards.

    The same call continues what was interrupted. Batches do not reach over a shard and a shard is made by one process,
    so the files do not depend on kills, nor on the number of processes (if each has as many threads). Processes do not
    wait for each other: whoever finds all shards complete writes the manifest, all of them the same.

    Args:
        dataset: its pipeline is `LoadImage` alone.
        folder: to make; it holds shards of the same teacher, proposals and images, or none.
        embed_dtype: "float16", or "float32" for twice the disk; float16 turns an embedding by 0.0003, a twentieth of
            what bfloat16 does to the teacher.
        images_per_shard: images that are lost, at most, by a kill.
        skip_bad: images that cannot be read get no regions, instead of stopping.
        rank, world_size: number of this process, and of all that work on the folder.
        progress: called with (images done, images to do) of this process.

    Raises:
        ValueError: an unknown dtype, a number below 1, an id that two images have, or a folder with another cache; the
            message names the difference.
    """
    if embed_dtype not in EMBED_DTYPES or images_per_shard < 1:
        known = ", ".join(EMBED_DTYPES)
        raise ValueError(f"expected one of {known} and images_per_shard >= 1, got {embed_dtype!r}, {images_per_shard}")
    ids = _sample_ids(dataset)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = [ids[start : start + images_per_shard] for start in range(0, len(ids), images_per_shard)]
    description = {**embedder.facts, "images": _facts_of(ids, images_per_shard), "embed_dtype": embed_dtype}
    description = json.loads(json.dumps(description))  # as it is read again
    damaged = _missing(folder, description, shards)
    missing = [number for number in damaged if number % world_size == rank]
    done, total = 0, sum(len(shards[number]) for number in missing)
    for number in missing:
        positions = range(number * images_per_shard, number * images_per_shard + len(shards[number]))
        report = None if progress is None else (lambda count, before=done: progress(before + count, total))
        regions, sizes = _embed(dataset, positions, embedder, skip_bad, report)
        header = {"description": description, "sample_ids": shards[number]}
        write_shard(folder / SHARD.format(number), header, regions, sizes, embed_dtype)
        done += len(positions)
    others = [number for number in damaged if number not in missing]
    is_finished = not _missing(folder, description, shards, others)
    if is_finished:
        _finish(folder, description, shards)
    return WrittenCache(len(shards), len(missing), is_finished)


def _embed(
    dataset: PipelineDataset,
    positions: Sequence[int],
    embedder: RegionEmbedder,
    skip_bad: bool,
    report: Callable[[int], None] | None,
) -> tuple[list[Regions], list[Size]]:
    """Return the regions and the size of each image; none and `NOT_READ` for one that is skipped."""
    sizes: list[Size] = []

    def items() -> Iterator[dict[str, Any]]:
        for position in positions:
            try:
                results = dataset[position]
            except BadSample as error:
                if not skip_bad:
                    raise
                logger.warning(f"no regions: {error}")
                sizes.append(NOT_READ)
            else:
                sizes.append(tuple(results["img"].shape[:2]))
                yield results
            if report is not None:
                report(len(sizes))

    embedded = iter(embedder(items()))
    nothing = Regions(torch.empty(0, 4), torch.empty(0, embedder.teacher.embed_dim), torch.empty(0))
    return [nothing if size == NOT_READ else next(embedded) for size in sizes], sizes


def _sample_ids(dataset: PipelineDataset) -> list[str]:
    ids = [str(item["sample_id"]) for item in dataset.load_index()]
    if len(set(ids)) < len(ids):
        twice = next(sample_id for number, sample_id in enumerate(ids) if sample_id in ids[:number])
        raise ValueError(f"{dataset.name}: two images have the id {twice!r}; regions are found by it")
    return ids


def _facts_of(ids: Sequence[str], images_per_shard: int) -> dict[str, Any]:
    digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    return {"count": len(ids), "ids": digest, "per_shard": images_per_shard}


def _missing(
    folder: Path,
    description: dict[str, Any],
    shards: Sequence[Sequence[str]],
    numbers: Sequence[int] | None = None,
) -> list[int]:
    """Return which of the shards (of all, or of those with the given `numbers`) are not there, or damaged.

    Raises:
        ValueError: a shard of another cache.
    """
    missing = []
    for number in range(len(shards)) if numbers is None else numbers:
        path = folder / SHARD.format(number)
        header, whole = read_header(path), is_whole(path)
        if header and (whole or "checksum" not in header):  # of a damaged one the description may be what is damaged
            difference = first_difference(header.get("description"), description)
            if difference:
                raise ValueError(f"{folder} holds another cache: {difference}; choose another folder or remove it")
        if not whole:
            missing.append(number)
    return missing


def _finish(folder: Path, description: dict[str, Any], shards: Sequence[Sequence[str]]) -> None:
    """Write the manifest, and remove what killed processes have left."""
    entries = []
    for number, ids in enumerate(shards):
        path = folder / SHARD.format(number)
        entries.append({"file": path.name, "bytes": path.stat().st_size, "sample_ids": ids})
    content = manifest_text(description, entries).encode()
    path = folder / MANIFEST
    if not path.is_file() or path.read_bytes() != content:
        with replacing(path, "wb") as file:
            file.write(content)
    remove_leftovers(folder)
