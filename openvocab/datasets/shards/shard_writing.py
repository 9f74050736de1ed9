"""Write tar shards (the WebDataset format) from a folder of captioned images."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openvocab.argument_checks import check_choice
from openvocab.datasets.files.caption_files import Record
from openvocab.datasets.files.folder_walk import stored_names
from openvocab.datasets.shards.tar_shards import IMAGE_FIELDS, is_whole_shard
from openvocab.files.atomic_files import replacing
from openvocab.files.text_files import read_json
from openvocab.images.image_io import BadSample, read_image_bytes

DESCRIPTION = "shards.json"


@dataclass
class WrittenShards:
    """The result of `write_shards`."""

    num_shards: int = 0
    num_kept: int = 0
    """Shards that were complete already."""
    bad: list[str] = field(default_factory=list)
    """Path and reason of every image that was skipped in the shards that were written now."""


def write_shards(
    records: Sequence[Record],
    root: str | Path,
    out: str | Path,
    *,
    samples_per_shard: int = 1000,
    prefix: str = "shard",
    progress: Callable[[int, int], None] | None = None,
) -> WrittenShards:
    """Write `<prefix>-000000.tar`, ...: for each record the unchanged image file, and its captions in a `.json`.

    A shard gets its name only when it is complete and on the disk. The same call continues an interrupted one and
    writes incomplete shards again; simultaneous calls write the same files.

    Args:
        records: see `read_records`.
        root: folder to which the records' image paths are relative.
        out: folder to create; it may hold shards of the same records, but no others.
        samples_per_shard: records per shard; bad images are skipped, and not replaced.
        prefix: prefix of the file names.
        progress: called with (records done, total).

    Raises:
        ValueError: no records, a number below 1, a file without the extension of an image, or a folder with other
            shards.
        OSError: the disk is full or cannot be written.
    """
    if not records or samples_per_shard < 1:
        raise ValueError(
            f"expected at least one record and one sample per shard, got {len(records)} and {samples_per_shard}"
        )
    for record in records:
        _field_of(record["image"])
    out, root = Path(out), Path(root)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, {"records": _digest(records), "samples_per_shard": samples_per_shard, "prefix": prefix})
    result = WrittenShards()
    for start in range(0, len(records), samples_per_shard):
        path = out / f"{prefix}-{result.num_shards:06d}.tar"
        part = records[start : start + samples_per_shard]
        if is_whole_shard(path):
            result.num_kept += 1
        else:
            result.bad += _write_shard(part, start, root, path)
        result.num_shards += 1
        if progress is not None:
            progress(start + len(part), len(records))
    return result


def _claim(out: Path, description: dict[str, Any]) -> None:
    """Write a description of the folder's shards, or check that the one there is equal."""
    path = out / DESCRIPTION
    if path.is_file():
        if read_json(path) != description:
            raise ValueError(f"{out} holds shards of other captions or options; choose another folder or remove it")
        return
    if next(out.glob("*.tar"), None) is not None:
        raise ValueError(f"{out} holds shards that are not described by a {DESCRIPTION}; choose another folder")
    with replacing(path) as file:
        file.write(json.dumps(description, indent=1))


def _write_shard(records: Sequence[Record], start: int, root: Path, path: Path) -> list[str]:
    """Write one shard, completely or not at all, and return the images that were skipped, with reasons."""
    bad = []
    names = stored_names(root, [record["image"] for record in records])
    with replacing(path, "wb") as file, tarfile.open(fileobj=file, mode="w") as archive:
        for number, (name, record) in enumerate(zip(names, records), start=start):
            try:
                content = read_image_bytes(root / name)
            except BadSample as error:
                bad.append(str(error))
                continue
            description = {"captions": record["captions"], "image": record["image"]}
            _add(archive, f"{number:09d}.{_field_of(record['image'])}", content)
            # a file name that is not UTF-8 has lone surrogates, which become JSON escapes
            text = json.dumps(description, ensure_ascii=False).encode("utf-8", "backslashreplace")
            _add(archive, f"{number:09d}.json", text)
    return bad


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)  # time and owner stay zero, so that the same records give the same bytes
    header.size = len(content)
    archive.addfile(header, io.BytesIO(content))


def _field_of(image: str) -> str:
    extension = Path(image).suffix.lower().removeprefix(".")
    check_choice(f"image {image!r}: extension", extension, IMAGE_FIELDS)
    return extension


def _digest(records: Sequence[Record]) -> str:
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record).encode())
    return digest.hexdigest()
