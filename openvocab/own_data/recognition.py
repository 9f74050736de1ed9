"""Recognize what a path holds: a data file, a file of labels, or a folder of a common layout.

A layout that can be read in two ways is an error that lists the readings: nothing is guessed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openvocab.datasets.files.folder_walk import files_by_key, is_image, visible_entries, walk_files
from openvocab.files.text_files import read_json, read_text, read_xml, read_yaml
from openvocab.own_data.data_file import read_data_file
from openvocab.own_data.image_folders import (
    IMAGE_FOLDERS,
    LABEL_FOLDERS,
    MAX_LISTED,
    PART_WORDS,
    images_of,
    listed,
    may_hold_label_files,
)
from openvocab.own_data.label_kinds import is_labelme_file, kind_of_file, label_kind
from openvocab.own_data.parts import PARTS, TASKS_OF, OwnData, Part, Task, kind_of_labels
from openvocab.own_data.saved_tables import find_tables
from openvocab.own_data.table_export import TableOptions, unpack_tables
from openvocab.vocabulary.vocabulary import read_class_names

NAMES_FILES = ("names.txt", "classes.txt", "class_names.txt", "obj.names", "classes.names", "labels.txt")
COLORS_FILE = "labelmap.txt"
"""Names and colors of CVAT's export of label maps."""
_WORD = re.compile(r"[a-z]+")
_MAX_LABEL_FILES = 20


@dataclass
class _Reading:
    """One way to read a folder or file."""

    kind: str
    parts: dict[str, Part]
    near: list[Path] = field(default_factory=list)
    """Folders in which a file of names may lie."""


def recognize(source: str | Path, task: Task | None = None) -> OwnData:
    """Return the data that a path holds.

    Args:
        source: a data file (`.yaml`), a file of labels (COCO, Label Studio, CVAT), or a folder.
        task: what the data is to be used for; it decides between boxes and label maps in one folder.

    Raises:
        FileNotFoundError: no such file or folder, or one that a file names.
        ValueError: nothing that is recognized, or several readings; the message says what to pass.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        return _of_folder(source, task)
    if not source.is_file():
        raise FileNotFoundError(f"data: no file or folder {source}")
    if source.suffix.lower() in (".yaml", ".yml"):
        return read_data_file(source, task)
    kind = kind_of_file(source)
    if kind is None:
        _check_readable(source)
        raise ValueError(
            f"data: {source} is neither a data file (.yaml) nor labels of COCO (.json), Label Studio (.json) or CVAT "
            "(.xml)"
        )
    return OwnData(source, kind, {"train": Part(images_of(source, kind, source.parent), source)})


def _check_readable(path: Path) -> None:
    """Let a damaged file say what is wrong with it.

    Raises:
        OSError, ValueError: it is not JSON or XML, as its extension states.
    """
    reader = {".json": read_json, ".xml": read_xml}.get(path.suffix.lower())
    if reader is not None:
        reader(path)


def _of_folder(folder: Path, task: Task | None) -> OwnData:
    """Recognize a folder: by its data file, or by its layout."""
    data_files = [path for path in visible_entries(folder)[0] if _is_data_file(path)]
    if len(data_files) > 1:
        raise ValueError(f"data: {folder} holds several data files, {listed(data_files)}; pass one of them")
    if data_files:
        return read_data_file(data_files[0], task)
    readings = [*_layouts(folder), *_label_files(folder)]
    tables = find_tables(folder)
    if tables:
        return _of_tables(folder, tables, readings, task)
    fitting = [one for one in readings if task is None or task in TASKS_OF[one.kind]]
    if not fitting:
        found = f"; it holds {' and '.join(sorted({one.kind for one in readings}))}" if readings else ""
        found += "".join(f"; {error}" for error in _damaged_data_files(folder))
        purpose = f" for {task}" if task else ""
        raise ValueError(
            f"data: no labels{purpose} are recognized in {folder}{found}; pass a data file that names images, labels "
            "and names (docs/data.md)"
        )
    if len(fitting) > 1:
        ways = "; ".join(f"{one.kind} in {one.parts['train'].labels}" for one in fitting[:MAX_LISTED])
        raise ValueError(
            f"data: {folder} can be read in {len(fitting)} ways: {ways}; pass one of these files, or a data file that "
            "names images, labels and names (docs/data.md)"
        )
    return _with_names(folder, fitting[0])


def _of_tables(
    folder: Path, tables: Mapping[str, Sequence[Path]], readings: Sequence[_Reading], task: Task | None
) -> OwnData:
    """Return the data of a folder that Hugging Face's `datasets` saved, unpacked."""
    if readings:
        raise ValueError(
            f"data: {folder} holds a dataset in {tables['train'][0]}, and {readings[0].kind} in "
            f"{readings[0].parts['train'].labels}; move one of them, or pass a data file (docs/data.md)"
        )
    files = _names_files([folder])
    lines = read_class_names(files[0]) if len(files) == 1 else None
    names = None if lines is None else {number: several[0] for number, several in enumerate(lines)}
    unpacked = unpack_tables(folder, tables, task, TableOptions(names=names))
    return _with_names(folder, _Reading(unpacked.kind, unpacked.parts, [folder]))


def _is_data_file(path: Path) -> bool:
    """Return whether a file is YAML with names of classes; other programs leave YAML of other kinds."""
    if path.suffix.lower() not in (".yaml", ".yml"):
        return False
    try:
        content = read_yaml(path)
    except (OSError, ValueError):
        return False
    return isinstance(content, Mapping) and any(key in content for key in ("names", "labels", "columns"))


def _damaged_data_files(folder: Path) -> Iterator[str]:
    """Yield why the YAML files in a folder cannot be read."""
    for path in visible_entries(folder)[0]:
        if path.suffix.lower() in (".yaml", ".yml"):
            try:
                read_yaml(path)
            except (OSError, ValueError) as error:
                yield str(error)


# Folders with one label file per image


def _layouts(folder: Path) -> Iterator[_Reading]:
    """Yield the readings of a folder as images with one label file each."""
    by_part = _part_folders(folder)
    if by_part:
        yield from _of_part_folders(by_part)
        return
    for images, labels in _pairs(folder):
        image_parts, label_parts = _part_folders(images), _part_folders(labels)
        if image_parts and image_parts.keys() <= label_parts.keys():
            parts = {name: (image_parts[name], label_parts[name]) for name in image_parts}
        else:
            parts = {"train": (images, labels)}
        kinds = {kind for pair in parts.values() if (kind := _kind_or_none(*pair)) is not None}
        if len(kinds) == 1:
            built = {name: Part(*pair) for name, pair in _in_order(parts).items()}
            kind = kinds.pop()
            yield _Reading(kind, _with_image_sets(folder, built, kind), [folder, labels, images])


def _of_part_folders(by_part: Mapping[str, Path]) -> Iterator[_Reading]:
    """Yield the readings of train/, val/ and test/, each with images and labels in it."""
    readings: dict[tuple[str, str, str], dict[str, Part]] = {}
    for name, folder in by_part.items():
        for images, labels in _pairs(folder):
            kind = _kind_or_none(images, labels)
            if kind is not None:
                layout = (kind, images.relative_to(folder).as_posix(), labels.relative_to(folder).as_posix())
                readings.setdefault(layout, {})[name] = Part(images, labels)
    for (kind, _, _), parts in readings.items():
        if "train" in parts:
            yield _Reading(kind, _in_order(parts), [by_part["train"].parent, parts["train"].labels])


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the folders that can be images and labels: by their names, or one folder with both."""
    files, folders = visible_entries(folder)
    images = [one for one in folders if one.name.lower() in IMAGE_FOLDERS]
    labels = [one for one in folders if one.name.lower() in LABEL_FOLDERS]
    yield from ((one, other) for one in images for other in labels if one != other)
    yield from ((one, one) for one in images)
    if any(map(is_image, files)):
        yield folder, folder
        yield from ((folder, other) for other in labels)


def _kind_or_none(images: Path, labels: Path) -> str | None:
    """Return the kind of the labels of some images, None if they are none: a label file must belong to an image.

    Raises:
        ValueError: labels of several kinds.
    """
    keys = files_by_key(images).keys()
    extensions = {path.suffix.lower() for path in walk_files(labels)}
    if images == labels:
        extensions = {one for one in extensions if not is_image(Path(f"x{one}"))}
    if not keys or not any(keys & files_by_key(labels, extensions=(one,)).keys() for one in extensions):
        return None
    if images != labels and any(is_image(Path(f"x{one}")) for one in extensions):
        return "label maps"
    kind = label_kind(labels, images)
    if kind == "labelme" and not all(map(is_labelme_file, _first_files(labels, ".json"))):
        return None
    return kind


def _first_files(folder: Path, extension: str) -> list[Path]:
    return [path for path in walk_files(folder) if path.suffix.lower() == extension][:3]


def _with_image_sets(folder: Path, parts: dict[str, Part], kind: str) -> dict[str, Part]:
    """Return the parts that the lists of Pascal VOC state, in ImageSets/; the given ones if there are none."""
    sets = folder / "ImageSets" / ("Segmentation" if kind == "label maps" else "Main")
    if list(parts) != ["train"] or not sets.is_dir():
        return parts
    lists = {part: sets / f"{part}.txt" for part in PARTS if (sets / f"{part}.txt").is_file()}
    if "train" not in lists:
        return parts
    return {name: Part(parts["train"].images, parts["train"].labels, lists[name]) for name in lists}


# Files with the labels of many images


def _label_files(folder: Path) -> Iterator[_Reading]:
    """Yield the readings of a folder that has one file of labels, or one for each part."""
    folders = [folder, *(one for one in visible_entries(folder)[1] if may_hold_label_files(one))]
    by_kind: dict[str, list[Path]] = {}
    for path in (path for one in folders for path in _few_files(one)):
        kind = kind_of_file(path)
        if kind is not None:
            by_kind.setdefault(kind, []).append(path)
    for kind, files in by_kind.items():
        yield from _readings_of_files(folder, kind, files)


def _few_files(folder: Path) -> list[Path]:
    """Return the JSON and XML files in a folder; of an extension with many files, each is of a single image."""
    files = visible_entries(folder)[0]
    by_extension = {one: [path for path in files if path.suffix.lower() == one] for one in (".json", ".xml")}
    return [path for paths in by_extension.values() if len(paths) <= _MAX_LABEL_FILES for path in paths]


def _readings_of_files(folder: Path, kind: str, files: Sequence[Path]) -> Iterator[_Reading]:
    """Yield one reading if each file is of another part, else one for each file."""
    named = [(_part_in_name(path, folder), path) for path in files]
    parts = {part: path for part, path in named if part is not None}
    if len(files) > 1 and len(parts) == len(files) and "train" in parts:
        found = {name: Part(images_of(path, kind, folder), path) for name, path in _in_order(parts).items()}
        yield _Reading(kind, found, [folder])
    else:
        for path in files:
            yield _Reading(kind, {"train": Part(images_of(path, kind, folder), path)}, [folder])


def _part_in_name(path: Path, folder: Path) -> str | None:
    """Return the part that the name of a file states, such as `instances_val2017.json`, or its folder."""
    words = [*_WORD.findall(path.stem.lower()), *map(str.lower, path.relative_to(folder).parts[:-1])]
    found = {PART_WORDS[word] for word in words if word in PART_WORDS}
    return found.pop() if len(found) == 1 else None


# Names


def _with_names(folder: Path, reading: _Reading) -> OwnData:
    """Return the data of a reading, with names from a file near the labels if the labels hold numbers only."""
    names: list[list[str]] | None = None
    labels: dict[str, Any] = {}
    if reading.kind == "label maps" and (folder / COLORS_FILE).is_file():
        names, labels = _names_and_colors(folder / COLORS_FILE)
    elif reading.kind in ("label maps", "YOLO"):
        files = _names_files(reading.near)
        if len(files) != 1:
            found = f"several files list names, {listed(files)}" if files else f"no names are found in {folder}"
            raise ValueError(
                f"data: {kind_of_labels(reading.kind)} hold numbers only, and {found}; put a names.txt there, one name "
                "per line in the order of the numbers, or pass a data file with names"
            )
        names = read_class_names(files[0])
    return OwnData(folder, reading.kind, reading.parts, names, labels=labels)


def _names_files(folders: Iterable[Path]) -> list[Path]:
    files = [path for folder in folders for path in visible_entries(folder)[0] if path.name.lower() in NAMES_FILES]
    return [*{path.resolve(): path for path in files}.values()]


def _names_and_colors(path: Path) -> tuple[list[list[str]], dict[str, Any]]:
    """Read CVAT's `labelmap.txt`: lines `name:red,green,blue:parts:actions`.

    Raises:
        ValueError: a line of another form.
    """
    names: list[list[str]] = []
    colors: list[list[int]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.match(r"\s*(.+?)\s*:\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*(?::|$)", line)
        if match is None:
            raise ValueError(f"{path}:{number}: expected name:red,green,blue::, got {line[:60]!r}")
        names.append([match[1]])
        colors.append([int(value) for value in match.groups()[1:]])
    return names, {"colors": colors}


def _part_folders(folder: Path) -> dict[str, Path]:
    """Return the folders train/, val/ and test/ in a folder; {} unless there is a train/."""
    found = {PART_WORDS[one.name.lower()]: one for one in visible_entries(folder)[1] if one.name.lower() in PART_WORDS}
    return found if "train" in found else {}


def _in_order(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: parts[name] for name in PARTS if name in parts}
