"""Writing the region cache of a dataset: shard by shard, by any number of processes, resumable after being killed."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from openvocab.argument_checks import check_choice
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
    """The outcome of `write_region_cache`."""

    num_shards: int
    num_new: int
    """Shards that this process has written."""
    is_finished: bool
    """False if other processes have not written all of their shards yet."""


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
    """Write the regions of every image in shards, and finally the manifest that completes the cache.

    The same call resumes an interrupted one. A batch never spans two shards and each shard is written by one process,
    so that the files depend neither on interruptions nor on the number of processes (with equal numbers of threads).
    Processes do not wait for each other: each one that finds all shards complete writes the same manifest.

    Args:
        dataset: a dataset whose pipeline is `LoadImage` alone.
        embedder: the teacher with its source of proposals.
        folder: folder of the cache; if it holds shards, they are of the same teacher, proposals and images.
        embed_dtype: "float16", or "float32" at twice the size on disk; float16 changes an embedding by an angle of
            0.0003, a twentieth of the change by bfloat16 in the teacher.
        images_per_shard: at most so many images are computed again after a kill.
        skip_bad: whether images that cannot be read get no regions, instead of an error.
        rank, world_size: index of this process, and number of processes that write to the folder.
        progress: called with (images done, all images) of this process.

    Raises:
        ValueError: an unknown dtype, a number below 1, two images with one id, or a folder with another cache; the
            message names the difference.
    """
    check_choice("embed_dtype", embed_dtype, EMBED_DTYPES)
    if images_per_shard < 1:
        raise ValueError(f"images_per_shard: expected at least 1, got {images_per_shard}")
    ids = _sample_ids(dataset)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = [ids[start : start + images_per_shard] for start in range(0, len(ids), images_per_shard)]
    description = {**embedder.facts, "images": _facts_of(ids, images_per_shard), "embed_dtype": embed_dtype}
    description = json.loads(json.dumps(description))  # as it will be read: tuples become lists
    missing = _missing(folder, description, shards)
    own = [number for number in missing if number % world_size == rank]
    done, total = 0, sum(len(shards[number]) for number in own)
    for number in own:
        positions = range(number * images_per_shard, number * images_per_shard + len(shards[number]))
        report = None if progress is None else partial(_report, progress, done, total)
        regions, sizes = _embed(dataset, positions, embedder, skip_bad, report)
        header = {"description": description, "sample_ids": shards[number]}
        write_shard(folder / SHARD.format(number), header, regions, sizes, embed_dtype)
        done += len(positions)
    others = [number for number in missing if number not in own]
    is_finished = not _missing(folder, description, shards, others)
    if is_finished:
        _finish(folder, description, shards)
    return WrittenCache(len(shards), len(own), is_finished)


def _report(progress: Callable[[int, int], None], done: int, total: int, count: int) -> None:
    """Report `count` images of a shard, after `done` images of earlier ones."""
    progress(done + count, total)


def _embed(
    dataset: PipelineDataset,
    positions: Sequence[int],
    embedder: RegionEmbedder,
    skip_bad: bool,
    report: Callable[[int], None] | None,
) -> tuple[list[Regions], list[Size]]:
    """Return the regions and the size of each image; no regions and `NOT_READ` for a skipped one."""
    sizes: list[Size] = []

    def items() -> Iterator[dict[str, Any]]:
        """Yield the readable images, and note the sizes of all of them."""
        for position in positions:
            try:
                results = dataset[position]
            except BadSample as error:
                if not skip_bad:
                    raise
                logger.warning(f"no regions: {error}")
                sizes.append(NOT_READ)
            else:
                height, width = results["img"].shape[:2]
                sizes.append((height, width))
                yield results
            if report is not None:
                report(len(sizes))

    # `sizes` is filled while the embedder consumes the items, so it is complete once all are embedded.
    embedded = iter(embedder(items()))
    no_regions = Regions(torch.empty(0, 4), torch.empty(0, embedder.teacher.embed_dim), torch.empty(0))
    return [no_regions if size == NOT_READ else next(embedded) for size in sizes], sizes


def _sample_ids(dataset: PipelineDataset) -> list[str]:
    """Return the ids of all images, which must be unique: regions are found by them."""
    ids = [str(item["sample_id"]) for item in dataset.load_index()]
    if len(set(ids)) < len(ids):
        repeated = next(sample_id for number, sample_id in enumerate(ids) if sample_id in ids[:number])
        raise ValueError(f"{dataset.name}: two images have the id {repeated!r}; regions are found by it")
    return ids


def _facts_of(ids: Sequence[str], images_per_shard: int) -> dict[str, Any]:
    """Return the description of the images and their division into shards."""
    digest = hashlib.sha256(json.dumps(ids).encode()).hexdigest()
    return {"count": len(ids), "ids": digest, "per_shard": images_per_shard}


def _missing(
    folder: Path,
    description: dict[str, Any],
    shards: Sequence[Sequence[str]],
    numbers: Sequence[int] | None = None,
) -> list[int]:
    """Return which shards, of all or of those with the given `numbers`, are missing or damaged.

    Raises:
        ValueError: a shard of another cache.
    """
    missing = []
    for number in range(len(shards)) if numbers is None else numbers:
        path = folder / SHARD.format(number)
        header, whole = read_header(path), is_whole(path)
        if header and (whole or "checksum" not in header):  # of a damaged one, the description itself may be damaged
            difference = first_difference(header.get("description"), description)
            if difference:
                raise ValueError(f"{folder} holds another cache: {difference}; choose another folder or remove it")
        if not whole:
            missing.append(number)
    return missing


def _finish(folder: Path, description: dict[str, Any], shards: Sequence[Sequence[str]]) -> None:
    """Write the manifest, and remove the temporary files of killed processes."""
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
