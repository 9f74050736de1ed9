"""Find and read the Arrow and Parquet files of a dataset that Hugging Face's `datasets` saved.

pyarrow reads them: files of values, from which nothing is executed.
"""

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from openvocab.datasets.files.folder_walk import walk_files
from openvocab.files.printable_text import printable
from openvocab.files.text_files import read_json
from openvocab.own_data.image_folders import PART_WORDS, listed
from openvocab.own_data.parts import PARTS

logger = logging.getLogger(__name__)
BATCH = 16
"""Rows that are in memory at a time, with their images."""
END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
"""The end of an Arrow stream; without it, pyarrow takes a stream that is cut off between two batches for complete."""
LFS_START = b"version https://git-lfs"
_LISTS = ("List", "LargeList", "Sequence")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
_WORD = re.compile(r"[a-z]+")
_NO_CONFIG = frozenset(PART_WORDS) | {"data", "default"}
"""Folders whose names are no choice between several configs of a dataset."""


def find_tables(folder: Path) -> dict[str, list[Path]]:
    """Return the files of each part of a saved dataset, {} if the folder holds none.

    Args:
        folder: of `save_to_disk`, or with Parquet files as `to_parquet` and the hub name them (`train.parquet`,
            `data/train-00000-of-00002.parquet`, `train/0000.parquet`).

    Raises:
        FileNotFoundError: a file of several is missing.
        ValueError: several datasets, splits that are no parts of one, or a damaged list of files.
    """
    if (folder / "dataset_dict.json").is_file():
        path = folder / "dataset_dict.json"
        splits = _texts(_member(path, "splits"), path)
        return _by_part({name: _saved_files(folder / name) for name in splits}, folder)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _by_part({"train": _saved_files(folder)}, folder)
    files = [path for path in walk_files(folder) if path.suffix.lower() == ".parquet"]
    return _by_part(_parquet_splits(folder, files), folder) if files else {}


def _member(path: Path, key: str) -> Any:
    content = read_json(path)
    if not isinstance(content, Mapping) or key not in content:
        raise ValueError(f"{path}: expected {key!r}, as `save_to_disk` writes it")
    return content[key]


def _texts(values: Any, path: Path) -> list[str]:
    """Return names of files or folders in the folder of `path`, and nowhere else."""
    if not isinstance(values, list) or not all(
        isinstance(one, str) and one == Path(one).name != ".." for one in values
    ):
        raise ValueError(f"{path}: expected a list of names of files or folders, got {str(values)[:60]}")
    return values


def _saved_files(folder: Path) -> list[Path]:
    """Return the files of one split that `save_to_disk` wrote."""
    path = folder / "state.json"
    entries = _member(path, "_data_files")
    if isinstance(entries, list):
        entries = [one.get("filename") if isinstance(one, Mapping) else one for one in entries]
    files = [folder / name for name in _texts(entries, path)]
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"data: no file {missing}, which {path} lists; copy the whole folder again")
    return files


def _parquet_splits(folder: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the Parquet files of each split, by the names of files and folders."""
    configs: dict[str, Path] = {}
    splits: dict[str, list[Path]] = {}
    for path in files:
        *folders, _ = relative = path.relative_to(folder).parts
        configs.setdefault("/".join(one for one in folders if one.lower() not in _NO_CONFIG), path.parent)
        words = {word for text in (*folders, path.stem) for word in _WORD.findall(text.lower())}
        found = {PART_WORDS[word] for word in words if word in PART_WORDS}
        if len(found) > 1:
            raise ValueError(
                f"data: {'/'.join(relative)} in {folder} may be of {' or '.join(sorted(found))}; rename it"
            )
        splits.setdefault(found.pop() if found else "", []).append(path)
    if len(configs) > 1:
        raise ValueError(f"data: {folder} holds several datasets, in {listed([*configs.values()])}; pass one folder")
    if "" in splits and len(splits) > 1:
        raise ValueError(
            f"data: {listed(splits[''])} may be of any part of {folder}; name it train, validation or test"
        )
    for paths in splits.values():
        _check_complete(paths)
    return splits


def _check_complete(paths: list[Path]) -> None:
    """Check files whose names state how many there are: that none is missing, and that all are of one writing.

    Raises:
        FileNotFoundError: one is missing.
        ValueError: two have the same number, or state different numbers of files.
    """
    shards = [(path, match) for path in paths if (match := _SHARD.search(path.stem))]
    for start, several in groupby(shards, key=lambda shard: shard[0].with_name(shard[0].stem[: shard[1].start()])):
        numbers = [(int(match[1]), int(match[2])) for _, match in several]
        total = numbers[0][1]
        if len({number for number, _ in numbers}) < len(numbers) or any(one != total for _, one in numbers):
            raise ValueError(
                f"data: the files {start}-*.parquet are of several versions of a dataset; keep those of one"
            )
        missing = next((number for number in range(total) if (number, total) not in numbers), None)
        if missing is not None:
            name = f"{start}-{missing:05d}-of-{total:05d}.parquet"
            raise FileNotFoundError(f"data: no file {name}, one of {total}; download it")


def _by_part(splits: Mapping[str, list[Path]], folder: Path) -> dict[str, list[Path]]:
    """Return the files of each part; a single split has all images, whatever its name."""
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    parts: dict[str, str] = {}
    for name in splits:
        part = PART_WORDS.get(name.lower())
        if part is None:
            logger.warning(
                "%s: the split %r is not used: it is neither for training, validation nor test", folder, name
            )
        elif part in parts:
            raise ValueError(f"data: {folder}: the splits {parts[part]!r} and {name!r} are both for {part}; keep one")
        else:
            parts[part] = name
    if "train" not in parts:
        raise ValueError(f"data: {folder}: no split 'train' among {', '.join(splits)}; pass the folder of one split")
    return {part: splits[parts[part]] for part in PARTS if part in parts}


# Content


def read_features(path: Path) -> dict[str, Any]:
    """Return the features of a file, by the types of its columns and the names of classes that `datasets` wrote in it.

    Returns:
        {column: feature} in the JSON form of `datasets`, `{"_type": "Image"}`. A structure is {field: feature}.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: the file is damaged.
    """
    with _reading(path):
        schema = _open_parquet(path).schema_arrow if _is_parquet(path) else _open_stream(path).schema
        found = {schema.field(index).name: _feature(schema.field(index).type) for index in range(len(schema))}
        if len(found) < len(schema):
            raise ValueError(f"several of its columns have the same name, among {', '.join(found)}")
    try:
        written = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (ValueError, LookupError, TypeError, RecursionError):  # of another writer
        written = None
    return dict(_with_classes(found, written))


def _with_classes(found: Any, written: Any) -> Any:
    """Return a feature with the names of classes in what `datasets` wrote.

    Old versions write a structure of lists as a list of structures, and a list as `[feature]`.
    """
    inner = written
    if isinstance(written, list) and len(written) == 1:
        inner = written[0]
    elif isinstance(written, Mapping) and written.get("_type") in _LISTS:
        inner = written.get("feature")
    if found.get("_type") == "List":
        return {**found, "feature": _with_classes(found["feature"], inner)}
    if not isinstance(found.get("_type"), str):
        fields = inner if isinstance(inner, Mapping) else {}
        return {name: _with_classes(feature, fields.get(name)) for name, feature in found.items()}
    names = written.get("names") if isinstance(written, Mapping) and written.get("_type") == "ClassLabel" else None
    return {"_type": "ClassLabel", "names": list(map(str, names))} if isinstance(names, list) else found


def count_rows(path: Path) -> int:
    """Return the number of rows of a file.

    Raises:
        ValueError: the file is damaged.
    """
    with _reading(path):
        if _is_parquet(path):
            return int(_open_parquet(path).metadata.num_rows)
        return sum(batch.num_rows for batch in _open_stream(path))


def read_rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file, as {column: value}.

    Raises:
        ValueError: the file is damaged.
    """
    with _reading(path):
        for batch in _batches(path, columns):
            batch.validate(full=True)  # offsets of a damaged file could lie outside of its memory
            yield from batch.to_pylist()


def _batches(path: Path, columns: list[str]) -> Iterator[Any]:
    if _is_parquet(path):
        yield from _open_parquet(path).iter_batches(batch_size=BATCH, columns=columns)
        return
    for batch in _open_stream(path):
        chosen = batch.select(columns)
        yield from (chosen.slice(start, BATCH) for start in range(0, chosen.num_rows, BATCH))


def _feature(kind: Any) -> Any:
    """Return the feature of an Arrow type."""
    import pyarrow.types as types

    if types.is_struct(kind):
        fields = {kind.field(index).name: _feature(kind.field(index).type) for index in range(kind.num_fields)}
        is_image = fields.get("bytes", {}).get("dtype") in ("binary", "large_binary")
        return {"_type": "Image"} if is_image else fields
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return {"_type": "List", "feature": _feature(kind.value_type)}
    return {"_type": "Value", "dtype": str(kind)}


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() == ".parquet"


def _open_parquet(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path, memory_map=True)


def _open_stream(path: Path) -> Any:
    import pyarrow

    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(END_OF_STREAM)))
        if file.read() != END_OF_STREAM:
            raise ValueError("it is cut off")
    return pyarrow.ipc.open_stream(pyarrow.memory_map(str(path)))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Let an error of pyarrow be one line that names the file."""
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError(
            f"data: {path} is a file of Hugging Face's datasets, which pyarrow reads: pip install 'openvocab[data]'"
        ) from error
    try:
        yield
    except (pyarrow.ArrowException, ValueError, OSError) as error:
        with path.open("rb") as file:
            is_pointer = file.read(len(LFS_START)) == LFS_START
        reason = "it is a pointer of Git LFS: `git lfs pull` downloads the file" if is_pointer else error
        raise ValueError(printable(f"data: {path} cannot be read: {' '.join(str(reason).split())}")) from error
