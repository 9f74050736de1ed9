"""Whether the labels of images are boxes and nothing else, so that they can only be meant for detection."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from openvocab.datasets.annotations.labelme import WITHOUT_AREA, is_labelme
from openvocab.datasets.annotations.yolo import BOX_VALUES
from openvocab.datasets.files.folder_walk import walk_files
from openvocab.files.text_files import parse_json, read_label_text


def holds_boxes_alone(kind: str, folders: Iterable[Path]) -> bool:
    """Return whether label files hold boxes, and no outline that could be one of a label map.

    Files and lines that cannot be read are no evidence: reading the data reports them.

    Args:
        kind: of the labels, a key of `TASKS_OF`; only those with one file per image are looked at.
        folders: of the label files.
    """
    reader = _READERS.get(kind)
    if reader is None:
        return False
    extension, shapes = reader
    found = False
    for folder in folders:
        for path in walk_files(folder) if folder.is_dir() else ():
            if path.suffix.lower() != extension:
                continue
            for is_box in _readable(shapes, path):
                if not is_box:
                    return False
                found = True
    return found


def _readable(shapes: Callable[[Path], Iterator[bool]], path: Path) -> Iterator[bool]:
    try:
        yield from shapes(path)
    except (OSError, ValueError):
        return


def _yolo_lines(path: Path) -> Iterator[bool]:
    """Yield for each object whether its line has a class and a box alone; longer ones may be outlines."""
    for line in read_label_text(path).splitlines():
        extra = len(line.split()) - 1 - BOX_VALUES
        if extra >= 0 and line.split()[0].isdigit():  # a list of names may lie there, too
            yield extra == 0


def _labelme_shapes(path: Path) -> Iterator[bool]:
    """Yield for each shape with an area whether it is a rectangle between two corners."""
    content: Any = parse_json(read_label_text(path), path)
    for shape in content["shapes"] if is_labelme(content) else ():
        if isinstance(shape, Mapping) and shape.get("shape_type") not in WITHOUT_AREA:
            yield shape.get("shape_type") == "rectangle" and len(shape.get("points") or ()) == 2


_READERS: Mapping[str, tuple[str, Callable[[Path], Iterator[bool]]]] = {
    "YOLO": (".txt", _yolo_lines),
    "labelme": (".json", _labelme_shapes),
}
"""The extension of the label files of a kind, and what tells the boxes in one from other shapes."""
