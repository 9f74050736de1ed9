"""Read a YOLO folder: one text file per image, one object per line, coordinates in fractions of the image."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvocab.datasets.annotations.packed_masks import MAX_OUTLINE, outline_length
from openvocab.datasets.annotations.records import AnnotationList, ColumnsBuilder, ImageEntry, note_orphans, raise_bad
from openvocab.datasets.annotations.yolo_columns import MAX_BEYOND, LongLines
from openvocab.datasets.files.folder_walk import files_by_key
from openvocab.files.file_values import numbers, whole_number
from openvocab.files.text_files import read_label_text, read_yaml
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.structures import Size
from openvocab.vocabulary.vocabulary import Vocabulary, has_visible_character

BOX_VALUES, MIN_POLYGON_VALUES = 4, 6
MIN_FRACTION, MAX_FRACTION = -1, 2
"""A box with numbers beyond these is not in fractions of the image; within, one that leaves the image is clipped."""


@dataclass(frozen=True)
class YoloYaml:
    """What a data.yaml states about the label files."""

    names: dict[int, str]
    """By class number, ascending; there may be gaps."""
    keypoint_values: int | None
    """Number of keypoint values after a box, by `kpt_shape`: keypoints times x, y and usually visibility."""


def read_yolo(
    folder: Path,
    image_folder: Path,
    names: Mapping[int, str],
    with_masks: bool,
    on_bad: Callable[[BadSample], None] = raise_bad,
    keypoint_values: int | None = None,
) -> AnnotationList:
    """Read the labels of a folder of images: lines `class cx cy w h` or, with polygons, `class x1 y1 x2 y2 x3 y3 ...`.

    A box that is followed by other columns, such as keypoints or a tracker's confidence and id, can look like a
    polygon. The lines of all files together decide which it is (`LongLines`); if they do not, they are rejected.

    An image without a label file has no objects, by the convention of this format. An orphan label file is skipped.

    Args:
        folder: folder of the text files, searched recursively.
        image_folder: folder of the images, whose paths differ from those of their labels in the extension only.
        names: names of the class numbers.
        with_masks: keep the polygons: all longer lines are read as such; a line with a box alone gives an object
            without a mask.
        on_bad: called with the error of an image or its label file, which are then skipped: a size that cannot be read,
            a line that is malformed, with pixels instead of fractions, or of a class without a name (with file and
            line).
            Default: raise it.
        keypoint_values: see `YoloYaml`; if given, there are no polygons.

    Raises:
        FileNotFoundError: no label file belongs to an image.
        ValueError: longer lines that may be either polygons or boxes with more columns.
    """
    images = files_by_key(image_folder)
    labels = files_by_key(folder, extensions=(".txt",))
    labels = {key: path for key, path in labels.items() if path.name != "classes.txt" or key in images}
    notes = note_orphans(labels, images, "label file")
    builder, long_lines = ColumnsBuilder(with_masks), LongLines()
    entries: list[ImageEntry] = []
    for key, path in images.items():
        try:
            size = read_image_size(path)
            objects = _read_labels(labels[key], names, size, keypoint_values, long_lines) if key in labels else []
            for category, box, polygon in objects:
                builder.append(len(entries), category, box, segmentation=polygon)
        except BadSample as error:
            on_bad(error)
            continue
        entries.append(ImageEntry(key, path.relative_to(image_folder).as_posix(), size))
    if not with_masks:
        long_lines.check_polygons()
    notes += _note_without_labels(images, labels)
    category_names = [names[number] for number in sorted(names)]
    return AnnotationList(entries, category_names, sorted(names), builder.build(), notes=notes)


def _note_without_labels(images: Mapping[str, Path], labels: Mapping[str, Path]) -> list[str]:
    """Return a note for the log on images without a label file."""
    without = [path.name for key, path in images.items() if key not in labels]
    if not without:
        return []
    return [f"{len(without)} images have no label file and count as images without objects; the first is {without[0]}"]


def read_yolo_yaml(path: Path) -> YoloYaml:
    """Read `names`, a list or a mapping from class numbers, and `kpt_shape` of a data.yaml.

    A name is always a string: `on` is not a boolean, and `010` not a number.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names in it, a number of names other than `nc`, or a malformed `kpt_shape`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"classes: no file {path}")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a mapping with 'names', got {str(content)[:60]}")
    return YoloYaml(_names(content, path), _keypoint_values(content, path))


def _names(content: Mapping[Any, Any], path: Path) -> dict[int, str]:
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names or not isinstance(names, dict):
        raise ValueError(f"{path}: expected 'names', a list or a mapping from class numbers, got {str(names)[:60]}")
    for number, name in names.items():
        if not isinstance(name, str):
            raise ValueError(f"{path}: the name of class {number} is not a text but {str(name)[:60]}; put it in quotes")
        if not has_visible_character(name):
            raise ValueError(f"{path}: class {number} has an empty name ({name[:60]!r}); give it one")
    try:
        Vocabulary.from_names(names.values())
    except ValueError as error:
        raise ValueError(f"{path}: names in their order: {error}") from error
    by_number = {whole_number(number, f"{path}: names"): name for number, name in names.items()}
    if len(by_number) < len(names):
        raise ValueError(f"{path}: names: a class number is given twice: {str(list(names))[:60]}")
    stated = content.get("nc")
    if stated is not None and whole_number(stated, f"{path}: nc") != len(by_number):
        raise ValueError(f"{path}: nc states {stated} classes, names has {len(by_number)}; correct one of them")
    return dict(sorted(by_number.items()))


def _keypoint_values(content: Mapping[Any, Any], path: Path) -> int | None:
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    sides = [whole_number(side, f"{path}: kpt_shape") for side in shape] if isinstance(shape, list) else []
    if len(sides) != 2 or sides[0] < 1 or sides[1] not in (2, 3):
        raise ValueError(f"{path}: kpt_shape: expected [number of keypoints, 2 or 3], got {str(shape)[:60]}")
    return math.prod(sides)


def _read_labels(
    path: Path, names: Mapping[int, str], size: Size, keypoint_values: int | None, long_lines: LongLines
) -> list[tuple[int, list[float], list[list[float]] | None]]:
    """Return class, box and polygons of every object in a label file; lines with polygons are added to `long_lines`.

    Raises:
        BadSample: the file or a line cannot be read.
    """
    try:
        lines = read_label_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise BadSample(path, f"the label file cannot be read ({error})") from error
    objects: list[tuple[int, list[float], list[list[float]] | None]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        location = f"{path}:{number}"
        _check_length(len(line.split()) - 1, location, keypoint_values)
        category, values = _parse(line, location, names)
        if len(values) == BOX_VALUES or keypoint_values is not None:
            objects.append((category, _box(values, size, location), None))
        elif not all(map(math.isfinite, values)):
            objects.append((category, [math.nan] * 4, None))  # dropped and counted with all boxes that are not finite
        else:
            long_lines.add(values, location)
            polygon = _polygon(values, size, location)
            xs, ys = polygon[::2], polygon[1::2]
            objects.append((category, [min(xs), min(ys), max(xs), max(ys)], [polygon]))
    return objects


def _check_length(count: int, location: str, keypoint_values: int | None) -> None:
    """Check the number of values after the class of a line."""
    if count == BOX_VALUES:
        return
    if keypoint_values is not None and count != BOX_VALUES + keypoint_values:
        expected = f"'class cx cy width height' and, by kpt_shape, {keypoint_values} values of keypoints"
        raise BadSample(location, f"expected {expected}, got {count + 1} fields")
    if keypoint_values is None and (count < MIN_POLYGON_VALUES or count % 2):
        raise BadSample(
            location,
            f"expected 'class cx cy width height' or a class and three or more corners, got {count + 1} fields; boxes "
            "with keypoints need kpt_shape in the data.yaml; cut off other columns",
        )


def _parse(line: str, location: str, names: Mapping[int, str]) -> tuple[int, Sequence[float]]:
    """Return the class of a line and the values that follow it."""
    fields = line.split()
    try:
        category, values = whole_number(fields[0], "class"), numbers(fields[1:], "coordinates")
    except ValueError:
        raise BadSample(location, f"expected a class number and coordinates, got {line.strip()[:60]!r}") from None
    if category not in names:
        named = f"{len(names)} numbers from {min(names)} to {max(names)}"
        raise BadSample(location, f"class {category} has no name; {named} have one")
    return category, values


def _box(values: Sequence[float], size: Size, location: str) -> list[float]:
    """Return x1 y1 x2 y2 in pixels of values that begin with the center, width and height of a box."""
    finite = filter(math.isfinite, values[:BOX_VALUES])
    beyond = [value for value in finite if not MIN_FRACTION <= value <= MAX_FRACTION]
    if beyond:
        raise BadSample(
            location,
            f"expected the center, width and height of a box as fractions of the image in 0..1, got {beyond[0]:g}; "
            "divide pixels by the width and height of the image",
        )
    height, width = size
    x, y, box_width, box_height = values[0] * width, values[1] * height, values[2] * width, values[3] * height
    return [x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2]


def _polygon(values: Sequence[float], size: Size, location: str) -> list[float]:
    """Return the corners x1 y1 x2 y2 ... in pixels."""
    beyond = [value for value in values if not -MAX_BEYOND <= value <= 1 + MAX_BEYOND]
    if beyond:
        raise BadSample(
            location,
            f"{len(values) + 1} fields are a class and the corners of a polygon, as fractions of the image in 0..1, "
            f"got {beyond[0]:g}; boxes with keypoints need kpt_shape in the data.yaml; cut off other columns",
        )
    height, width = size
    pixels = [value * (height if index % 2 else width) for index, value in enumerate(values)]
    if outline_length(pixels) > MAX_OUTLINE:
        raise BadSample(location, f"a polygon with an outline of more than {MAX_OUTLINE} pixels")
    return pixels
