"""A YOLO folder: one text file an image, one object a line, coordinates as shares of the image."""

import math
from collections.abc import Mapping
from pathlib import Path

import yaml

from openvocab.datasets.annotation_list import AnnotationList, Columns, ImageEntry, note_lonely
from openvocab.datasets.image_header import read_image_size
from openvocab.datasets.image_label_pairs import files_by_key
from openvocab.structures import Size

BOX_FIELDS, MIN_POLYGON_FIELDS = 5, 7


def read_yolo(folder: Path, image_folder: Path, names: Mapping[int, str], with_masks: bool) -> AnnotationList:
    """Read the labels of a folder of images: lines `class cx cy w h` or, with polygons, `class x1 y1 x2 y2 x3 y3 ...`.

    An image without a label file has no objects: that is what these files mean by it. A label file without an image is
    left out.

    Args:
        folder: of the text files, searched recursively.
        image_folder: of the images, whose paths in it are those of their labels but for the extension.
        names: of the class numbers.
        with_masks: keep the polygons; a line that holds a box only then makes an object without mask.

    Raises:
        FileNotFoundError: no label file belongs to an image.
        ValueError: a line of another form, or of a class that has no name, with file and line.
        BadSample: an image whose size cannot be read.
    """
    images = files_by_key(image_folder)
    labels = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.txt"))}
    labels = {key: path for key, path in labels.items() if path.name != "classes.txt"}
    notes = note_lonely(labels, images, "label file")
    columns, entries = Columns(with_masks), []
    for position, (key, path) in enumerate(images.items()):
        size = read_image_size(path)
        entries.append(ImageEntry(key, path.relative_to(image_folder).as_posix(), size))
        if key in labels:
            _read_labels(labels[key], position, size, names, columns)
    columns.freeze()
    bare = len(images.keys() - labels)
    notes += [f"{bare} images have no label file and count as images without objects"] if bare else []
    shown = [names[number] for number in sorted(names)]
    return AnnotationList(entries, shown, sorted(names), columns, notes=notes)


def read_yolo_names(path: Path) -> dict[int, str]:
    """Return the `names` of a data.yaml by class number; they are a list there, or a mapping, which may have holes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no names in it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"classes: no file {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names or not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        raise ValueError(f"{path}: expected 'names', a list or a mapping from class numbers, got {str(names)[:60]}")
    return {number: str(names[number]) for number in sorted(names)}


def _read_labels(path: Path, position: int, size: Size, names: Mapping[int, str], columns: Columns) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            category, box, polygon = _parse(line, f"{path}:{number}", names, size)
            columns.append(position, category, box, segmentation=polygon)


def _parse(line: str, place: str, names: Mapping[int, str], size: Size) -> tuple[int, list[float], list | None]:
    """Return the class of a line, its box in pixels and its polygon, if it has one."""
    fields = line.split()
    count = len(fields)
    if count != BOX_FIELDS and not (count >= MIN_POLYGON_FIELDS and count % 2):
        raise ValueError(
            f"{place}: expected 'class cx cy width height' or a class and three or more corners, got {count} fields"
        )
    try:
        category, values = int(fields[0]), [float(value) for value in fields[1:]]
    except ValueError:
        raise ValueError(f"{place}: expected a class number and coordinates, got {line.strip()[:60]!r}") from None
    if category not in names:
        numbers = f"{len(names)} numbers from {min(names)} to {max(names)}"
        raise ValueError(f"{place}: class {category} has no name; {numbers} have one")
    height, width = size
    pixels = [value * (height if index % 2 else width) for index, value in enumerate(values)]
    if count == BOX_FIELDS:
        x, y, box_width, box_height = pixels
        return category, [x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2], None
    if not all(map(math.isfinite, pixels)):
        return category, [math.nan] * 4, None  # dropped and counted with all other boxes that are not finite
    xs, ys = pixels[::2], pixels[1::2]
    return category, [min(xs), min(ys), max(xs), max(ys)], [pixels]
