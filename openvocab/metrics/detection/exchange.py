"""Detections on disk: the tables that ranks hand to the first one, and result files for other tools."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from mmengine.dist import all_gather_object, broadcast_object_list, get_rank, get_world_size, is_main_process

from openvocab.files.atomic_files import replacing
from openvocab.metrics.detection.tables import Detections, DetectionTables, Labels, Rows, merge_tables

Result = TypeVar("Result")


def gather_tables(rank_tables: Sequence[DetectionTables], folder: str | None) -> DetectionTables | None:
    """Return the tables of all ranks on the first rank, None on the others.

    Each rank writes one file; only whether that succeeded is sent over the network.

    Args:
        rank_tables: those of this rank, any number.
        folder: where the files are exchanged, on a disk that all ranks share; default: the system's temporary folder,
            which the ranks of one machine share.

    Raises:
        ValueError: no image was processed by any rank.
        OSError: a rank could not write its file, raised on all ranks, or the first rank cannot read the files.
    """
    if get_world_size() == 1:
        return _merge(rank_tables)
    exchange = Path(on_first_rank(lambda: tempfile.mkdtemp(prefix="detections_", dir=folder)))
    try:
        failures = [failure for failure in all_gather_object(_write_shard(rank_tables, exchange)) if failure]
        if failures:
            raise OSError(f"detections could not be handed to the first rank: {'; '.join(failures)}")
        if not is_main_process():
            return None
        paths = [exchange / _shard_name(rank) for rank in range(get_world_size())]
        return _merge([read_tables(path) for path in paths if path.stat().st_size])
    finally:
        if is_main_process():
            shutil.rmtree(exchange, ignore_errors=True)


def on_first_rank(work: Callable[[], Result]) -> Result:
    """Call `work` on the first rank; return its result, or raise its error, on all ranks."""
    outcome: list[Any] = [None, None]
    if is_main_process():
        try:
            outcome = [work(), None]
        except Exception as error:  # broadcast, too: the other ranks wait for a result
            outcome = [None, error]
    broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]


def write_tables(tables: DetectionTables, path: Path) -> None:
    """Write tables as a `.npz` file, whole or not at all."""
    arrays: dict[str, Any] = {"sample_ids": np.array(tables.sample_ids), "sizes": tables.sizes}
    arrays |= {"negative": tables.negative, "not_exhaustive": tables.not_exhaustive}
    for name, rows in (("labels", tables.labels), ("detections", tables.detections)):
        columns = {field.name: getattr(rows, field.name) for field in fields(rows)}
        masks = columns.pop("masks")
        arrays |= {f"{name}.{column}": values for column, values in columns.items()}
        if masks is not None:
            arrays[f"{name}.mask_bytes"] = np.frombuffer(b"".join(masks), np.uint8)
            arrays[f"{name}.mask_lengths"] = np.array([len(mask) for mask in masks], dtype=np.int64)
    with replacing(path, "wb") as file:
        np.savez(file, **arrays)


def read_tables(path: Path) -> DetectionTables:
    """Read tables that `write_tables` has written."""
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    return DetectionTables(
        arrays["sample_ids"].tolist(),
        arrays["sizes"],
        _read_rows(Labels, "labels", arrays),
        _read_rows(Detections, "detections", arrays),
        arrays["negative"],
        arrays["not_exhaustive"],
    )


def write_coco_results(path: str | Path, tables: DetectionTables, category_ids: Sequence[int]) -> None:
    """Write all detections as COCO results, a JSON list for evaluation servers and viewers, whole or not at all.

    Boxes become x y width height. The image id is the sample's id, as an integer if it consists of digits.

    Args:
        path: path of the file; its folder is created.
        tables: tables with N detections.
        category_ids: K ids of the classes in the annotation file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "w") as file:
        start = "[\n"
        for entry in _coco_results(tables, category_ids):
            file.write(start + json.dumps(entry))
            start = ",\n"
        file.write("[]\n" if start == "[\n" else "\n]\n")


def _coco_results(tables: DetectionTables, category_ids: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield one entry of a COCO results file per detection."""
    rows, sizes = tables.detections, tables.sizes.tolist()
    image_ids = [int(name) if name.isdecimal() else name for name in tables.sample_ids]
    for index, (image, number, score) in enumerate(
        zip(*(c.tolist() for c in (rows.images, rows.classes, rows.scores)))
    ):
        left, top, right, bottom = rows.boxes[index].tolist()
        entry = {"image_id": image_ids[image], "category_id": int(category_ids[number]), "score": score}
        entry["bbox"] = [left, top, right - left, bottom - top]
        if rows.masks is not None:
            entry["segmentation"] = {"size": sizes[image], "counts": rows.masks[index].decode("ascii")}
        yield entry


def _merge(parts: Sequence[DetectionTables]) -> DetectionTables:
    """Merge the tables of all images, of which there must be one."""
    if not parts:
        raise ValueError("average precision: no image was processed")
    return merge_tables(parts)


def _write_shard(rank_tables: Sequence[DetectionTables], folder: Path) -> str | None:
    """Write this rank's file, an empty one without images; return the message of a failure."""
    path = folder / _shard_name(get_rank())
    try:
        if rank_tables:
            write_tables(merge_tables(rank_tables), path)
        else:
            path.touch()
    except OSError as error:
        hint = "" if folder.is_dir() else "; set shard_folder to a folder that all machines share"
        return f"rank {get_rank()}: {error}{hint}"
    return None


def _shard_name(rank: int) -> str:
    return f"{rank:05d}.npz"


def _read_rows(kind: type[Rows], name: str, arrays: dict[str, np.ndarray]) -> Rows:
    """Return the rows of a table from the arrays of a file."""
    columns = [field.name for field in fields(kind) if field.name != "masks"]
    masks = None
    if f"{name}.mask_bytes" in arrays:
        buffer = arrays[f"{name}.mask_bytes"].tobytes()
        ends: list[int] = np.cumsum(arrays[f"{name}.mask_lengths"]).tolist()
        masks = [buffer[start:end] for start, end in zip([0, *ends], ends)]
    return kind(**{column: arrays[f"{name}.{column}"] for column in columns}, masks=masks)
