"""Read a data file: `my.yaml`, which names images, labels, names and splits, or the `data.yaml` of ultralytics.

docs/data.md describes the grammar.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from openvocab.argument_checks import check_choice
from openvocab.datasets.annotations.yolo import read_yolo_yaml
from openvocab.datasets.files.folder_walk import normal_key
from openvocab.files.file_values import whole_number
from openvocab.files.text_files import read_text, read_yaml
from openvocab.own_data.label_kinds import label_kind
from openvocab.own_data.parts import PARTS, OwnData, Part, Task, kind_of_labels
from openvocab.own_data.saved_tables import find_tables
from openvocab.own_data.table_boxes import BOX_FORMATS
from openvocab.own_data.table_columns import COLUMN_KEYS
from openvocab.own_data.table_export import TableOptions, unpack_tables
from openvocab.vocabulary.class_lists import load_class_names
from openvocab.vocabulary.vocabulary import Vocabulary

KEYS = (
    "path", "images", "labels", "names", "splits", "background", "unlabeled", "colors", "unlisted_ids", "columns",
    "box_format",
)  # fmt: skip
PART_KEYS = ("images", "labels", "list")
_HEX = re.compile(r"#([0-9a-fA-F]{6})")


def read_data_file(path: Path, task: Task | None = None) -> OwnData:
    """Read a data file.

    Args:
        path: the file.
        task: what the data is to be used for; it decides between boxes and label maps in one dataset.

    Raises:
        FileNotFoundError: it, or a file or folder that it names, is missing.
        ValueError: not YAML, an unknown key, or a value of the wrong form; the message names file and key.
    """
    content = read_yaml(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a mapping with images, labels and names, got {str(content)[:60]}")
    if any(part in content for part in PARTS):
        own = [key for key in ("images", "labels", "splits") if key in content]
        if own:
            raise ValueError(
                f"{path}: {own[0]!r} is a key of openvocab's data files, 'train' and 'val' are keys of ultralytics'; "
                "write the parts under 'splits'"
            )
        return _ultralytics(content, path)
    return _own(content, path, task)


def _own(content: Mapping[str, Any], path: Path, task: Task | None) -> OwnData:
    """Read openvocab's own grammar."""
    _check_keys(content, KEYS, str(path))
    root = _root(content, path)
    names, ids = _names(content, root, path)
    kind, parts = _of_tables(content, root, _by_number(names, ids), task, path) or _of_files(content, root, path)
    if names is None and kind in ("label maps", "YOLO"):
        raise ValueError(f"{path}: names: {kind_of_labels(kind)} hold numbers only; list the names in their order")
    labels = _label_arguments(content, names, ids, path) if kind == "label maps" else {}
    unlisted = _text(content, "unlisted_ids", path)
    check_choice(f"{path}: unlisted_ids", unlisted, ("raise", "ignore", None))
    labels |= {} if unlisted is None else {"unlisted_ids": unlisted}
    unused = [key for key in ("unlabeled", "colors") if key in content and kind != "label maps"]
    if unused:
        raise ValueError(f"{path}: {unused[0]}: only label maps have it, and the labels are {kind}")
    if kind == "YOLO" and ids is not None and ids != list(range(len(ids))):
        raise ValueError(f"{path}: names: the class numbers of YOLO go from 0 without gaps, got {str(ids)[:60]}")
    background = _text(content, "background", path)
    if background is not None and names is not None:
        Vocabulary.from_names(names, background=background, group=f"{path}")
    return OwnData(path, kind, parts, names, labels=labels, background=background)


def _of_files(content: Mapping[str, Any], root: Path, path: Path) -> tuple[str, dict[str, Part]]:
    """Return the kind of the labels, and the parts."""
    parts = dict(_parts(content, root, path))
    kinds = {label_kind(part.labels, part.images) for part in parts.values()}
    if len(kinds) > 1:
        raise ValueError(f"{path}: its parts have labels of different kinds, {' and '.join(sorted(kinds))}; use one")
    return kinds.pop(), parts


def _of_tables(
    content: Mapping[str, Any], root: Path, names: Mapping[int, str] | None, task: Task | None, path: Path
) -> tuple[str, dict[str, Part]] | None:
    """Return the same of a dataset that Hugging Face's `datasets` saved in `path`; None if the data are files."""
    stated = [key for key in ("columns", "box_format") if key in content]
    files = [key for key in ("images", "labels", "splits") if key in content]
    if stated and files:
        raise ValueError(
            f"{path}: {stated[0]} is for a dataset of Hugging Face in 'path', {files[0]} for files; use one"
        )
    tables = {} if files else find_tables(root)
    if not tables:
        if stated:
            raise FileNotFoundError(f"{path}: path: no Arrow or Parquet files of Hugging Face's datasets in {root}")
        return None
    columns = content.get("columns") or {}
    if not isinstance(columns, Mapping) or not all(isinstance(name, str) for name in columns.values()):
        raise ValueError(f"{path}: columns: expected a mapping such as image: photo, got {str(columns)[:60]}")
    _check_keys(columns, COLUMN_KEYS, f"{path}: columns")
    box_format = _text(content, "box_format", path)
    check_choice(f"{path}: box_format", box_format, (*BOX_FORMATS, None))
    unpacked = unpack_tables(root, tables, task, TableOptions(columns, names, box_format))
    return unpacked.kind, unpacked.parts


def _check_keys(content: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in content:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"{where}: unknown key {str(key)[:60]!r}{hint} (expected some of {', '.join(known)})")


def _root(content: Mapping[str, Any], path: Path) -> Path:
    stated = _text(content, "path", path)
    root = path.parent if stated is None else path.parent / Path(stated).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{path}: path: no folder {root}")
    return root


def _text(content: Mapping[str, Any], key: str, path: Path) -> str | None:
    value = content.get(key)
    if value is not None and (not isinstance(value, str) or not value.strip()):
        raise ValueError(f"{path}: {key}: expected a text, got {str(value)[:60]!r}")
    return value


def _parts(content: Mapping[str, Any], root: Path, path: Path) -> Iterator[tuple[str, Part]]:
    """Yield the parts in their order; a file without splits has all images in the first one."""
    common = {key: content[key] for key in ("images", "labels") if key in content}
    splits = content.get("splits")
    if splits is None:
        yield "train", _part(common, root, f"{path}")
        return
    if not isinstance(splits, Mapping) or "train" not in splits:
        raise ValueError(f"{path}: splits: expected a mapping with 'train', got {str(splits)[:60]}")
    _check_keys(splits, PARTS, f"{path}: splits")
    for name in PARTS:
        given = splits.get(name)
        if given is None:
            continue
        where = f"{path}: splits: {name}"
        if isinstance(given, str):
            given = {"list": given}
        if not isinstance(given, Mapping):
            raise ValueError(f"{where}: expected a list file, or images and labels, got {str(given)[:60]}")
        _check_keys(given, PART_KEYS, where)
        yield name, _part({**common, **given}, root, where)


def _part(given: Mapping[str, Any], root: Path, where: str) -> Part:
    for key in ("images", "labels"):
        if not isinstance(given.get(key), str):
            raise ValueError(f"{where}: {key}: expected a path, got {str(given.get(key))[:60]!r}")
    images, labels = root / given["images"], root / given["labels"]
    if not images.is_dir():
        raise FileNotFoundError(f"{where}: images: no folder {images}")
    if not labels.exists():
        raise FileNotFoundError(f"{where}: labels: no file or folder {labels}")
    listed = given.get("list")
    if listed is not None and not (isinstance(listed, str) and (root / listed).is_file()):
        raise FileNotFoundError(f"{where}: list: no file {listed if not isinstance(listed, str) else root / listed}")
    return Part(images, labels, None if listed is None else root / listed)


def _names(content: Mapping[str, Any], root: Path, path: Path) -> tuple[list[list[str]] | None, list[int] | None]:
    """Return names and synonyms of each class, and its id if ids are stated; None if there are none."""
    given, ids = content.get("names"), None
    if given is None:
        return None, None
    if isinstance(given, str):
        entries: list[Any] = list(load_class_names(given, root, f"{path}: names"))
    elif isinstance(given, Mapping):
        by_id = {whole_number(number, f"{path}: names"): entry for number, entry in given.items()}
        if len(by_id) < len(given):
            raise ValueError(f"{path}: names: an id is given twice")
        ids, entries = sorted(by_id), [by_id[number] for number in sorted(by_id)]
    elif isinstance(given, list):
        entries = given
    else:
        raise ValueError(f"{path}: names: expected a list, a mapping from ids, or a names file, got {str(given)[:60]}")
    names = [_synonyms(entry, path) for entry in entries]
    try:
        Vocabulary.from_names(names)
    except ValueError as error:
        raise ValueError(f"{path}: names: {error}") from error
    return names, ids


def _by_number(names: Sequence[Sequence[str]] | None, ids: Sequence[int] | None) -> dict[int, str] | None:
    """Return the first name of each class by its number."""
    if names is None:
        return None
    return {number: several[0] for number, several in zip(range(len(names)) if ids is None else ids, names)}


def _synonyms(entry: Any, path: Path) -> list[str]:
    """Return the names of a class: a list of them, or a text with `;` between them, as in a names file."""
    if isinstance(entry, str):
        entry = entry.split(";")
    if not isinstance(entry, list) or not all(isinstance(name, str) and name.strip() for name in entry):
        raise ValueError(f"{path}: names: expected a name, or names with ';' between them, got {str(entry)[:60]}")
    return [name.strip() for name in entry]


def _label_arguments(
    content: Mapping[str, Any], names: Sequence[Sequence[str]] | None, ids: list[int] | None, path: Path
) -> dict[str, Any]:
    """Return the arguments `labels` of `SegmentationDataset`."""
    colors, unlabeled = content.get("colors"), content.get("unlabeled")
    unlabeled = [] if unlabeled is None else unlabeled if isinstance(unlabeled, list) else [unlabeled]
    if colors is not None:
        if ids is not None and ids != list(range(len(ids))):
            raise ValueError(f"{path}: colors stand for the classes; give names as a list, without ids")
        arguments: dict[str, Any] = {"colors": _class_colors(colors, names or (), path)}
        ignored = [_color(color, f"{path}: unlabeled") for color in unlabeled]
        return {**arguments, **({"ignored_colors": ignored} if ignored else {})}
    arguments = {} if ids is None or ids == list(range(len(ids))) else {"label_ids": ids}
    if unlabeled:
        arguments["ignored_ids"] = [whole_number(one, f"{path}: unlabeled") for one in unlabeled]
    return arguments


def _class_colors(colors: Any, names: Sequence[Sequence[str]], path: Path) -> list[list[int]]:
    """Return the color of each class in the order of the names."""
    if isinstance(colors, Mapping):
        unknown = set(colors) - {several[0] for several in names}
        missing = [several[0] for several in names if several[0] not in colors]
        if unknown or missing:
            what = f"no class {sorted(unknown)[0]!r}" if unknown else f"no color for {missing[0]!r}"
            raise ValueError(f"{path}: colors: {what}; expected one color for each of the names")
        colors = [colors[several[0]] for several in names]
    if not isinstance(colors, list) or len(colors) != len(names):
        raise ValueError(f"{path}: colors: expected a mapping from names, or a list of {len(names)} colors")
    return [_color(color, f"{path}: colors") for color in colors]


def _color(color: Any, where: str) -> list[int]:
    """Return red, green and blue of `[200, 30, 30]`, "200, 30, 30" or "#c81e1e"."""
    if isinstance(color, str) and (match := _HEX.fullmatch(color.strip())):
        return [int(match[1][at : at + 2], 16) for at in (0, 2, 4)]
    parts = color.split(",") if isinstance(color, str) else color
    if not isinstance(parts, list) or len(parts) != 3:
        raise ValueError(f"{where}: expected a color [red, green, blue] or '#rrggbb', got {str(color)[:60]!r}")
    return [whole_number(part, where) for part in parts]


# The data.yaml of ultralytics


def _ultralytics(content: Mapping[str, Any], path: Path) -> OwnData:
    """Read ultralytics' grammar, by its rules: labels are in `labels` where images are in `images`."""
    root = _root(content, path)
    names = read_yolo_yaml(path).names
    if sorted(names) != list(range(len(names))):
        raise ValueError(f"{path}: names: expected class numbers from 0 without gaps, got {str(sorted(names))[:60]}")
    parts = {}
    for name in PARTS:
        given = content.get(name)
        if given is not None and given != "":
            parts[name] = _ultralytics_part(given, root, f"{path}: {name}")
    if "train" not in parts:
        raise ValueError(f"{path}: expected 'train', a folder of images or a list of them")
    return OwnData(path, "YOLO", parts, [[name] for name in names.values()], names_file=path)


def _ultralytics_part(given: Any, root: Path, where: str) -> Part:
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, str):
        raise ValueError(
            f"{where}: expected a folder or a list file; put several folders into one, got {str(given)[:60]}"
        )
    target = root / given
    if not target.exists() and given.startswith("../"):  # exports of Roboflow count from a folder below
        target = root / given[3:]
    if target.is_dir():
        labels = _labels_folder(target)
        if not labels.is_dir():
            raise FileNotFoundError(f"{where}: no folder {labels} with the labels of {target}")
        return Part(target, labels)
    if not target.is_file():
        raise FileNotFoundError(f"{where}: no folder or list {target}; correct it, or 'path'")
    return _listed_part(target, where)


def _labels_folder(images: Path) -> Path:
    """Return the folder of labels: the last `images` of the path becomes `labels`."""
    parts = list(images.parts)
    if "images" not in parts:
        return images
    last = len(parts) - 1 - parts[::-1].index("images")
    return Path(*parts[:last], "labels", *parts[last + 1 :])


def _listed_part(file: Path, where: str) -> Part:
    """Return the part of a file that lists images by their paths."""
    lines = [line.strip() for line in read_text(file).split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"{where}: {file} lists no images")
    paths = [file.parent / line for line in lines]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise FileNotFoundError(f"{where}: {file} lists {missing}, which is no file")
    folder = _images_folder(paths[0])
    beyond = next((path for path in paths if not path.is_relative_to(folder)), None)
    if beyond is not None:
        raise ValueError(f"{where}: {file} lists images of several folders, such as {folder} and {beyond.parent}")
    relative = [PurePosixPath(path.relative_to(folder).as_posix()) for path in paths]
    return Part(folder, _labels_folder(folder), tuple(normal_key(path.with_suffix("")) for path in relative))


def _images_folder(image: Path) -> Path:
    """Return the folder `images` that an image is in, or the folder of the image."""
    parts = image.parts[:-1]
    if "images" not in parts:
        return image.parent
    return Path(*parts[: len(parts) - parts[::-1].index("images")])
