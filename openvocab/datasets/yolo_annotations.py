"""A YOLO folder: one text file an image, one object a line, coordinates as shares of the image."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from openvocab.datasets.annotation_list import AnnotationList, Columns, ImageEntry, note_lonely, raise_bad
from openvocab.datasets.folder_walk import files_by_key
from openvocab.datasets.image_header import read_image_size
from openvocab.datasets.image_io import BadSample
from openvocab.datasets.packed_masks import MAX_OUTLINE, outline_length
from openvocab.structures import Size
from openvocab.text_files import read_label_text, read_yaml

BOX_FIELDS, MIN_POLYGON_FIELDS = 5, 7


def read_yolo(
    folder: Path,
    image_folder: Path,
    names: Mapping[int, str],
    with_masks: bool,
    on_bad: Callable[[BadSample], None] = raise_bad,
) -> AnnotationList:
    """Read the labels of a folder of images: lines `class cx cy w h` or, with polygons, `class x1 y1 x2 y2 x3 y3 ...`.

    An image without a label file has no objects: that is what these files mean by it. A label file without an image is
    left out.

    Args:
        folder: of the text files, searched recursively.
        image_folder: of the images, whose paths in it are those of their labels but for the extension.
        names: of the class numbers.
        with_masks: keep the polygons; a line that holds a box only then makes an object without mask.
        on_bad: takes what is wrong with an image or its label file, which are then left out: a size that cannot be
            read, a line of another form, or of a class that has no name (with file and line). By default it is raised.

    Raises:
        FileNotFoundError: no label file belongs to an image.
    """
    images = files_by_key(image_folder)
    labels = files_by_key(folder, extensions=(".txt",))
    labels = {key: path for key, path in labels.items() if path.name != "classes.txt"}
    notes = note_lonely(labels, images, "label file")
    columns, entries = Columns(with_masks), []
    for key, path in images.items():
        try:
            size = read_image_size(path)
            objects = _read_labels(labels[key], names, size) if key in labels else []
            for category, box, polygon in objects:
                columns.append(len(entries), category, box, segmentation=polygon)
        except BadSample as error:
            on_bad(error)
            continue
        entries.append(ImageEntry(key, path.relative_to(image_folder).as_posix(), size))
    columns.freeze()
    bare = [path.name for key, path in images.items() if key not in labels]
    if bare:
        notes.append(
            f"{len(bare)} images have no label file and count as images without objects, the first is {bare[0]}"
        )
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
    content = read_yaml(path)
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not names or not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        raise ValueError(f"{path}: expected 'names', a list or a mapping from class numbers, got {str(names)[:60]}")
    for number, name in names.items():
        if isinstance(name, bool) or not isinstance(name, (str, int, float)):
            raise ValueError(
                f"{path}: the name of class {number} is not a string but {str(name)[:60]}; put it in quotes"
            )
    return {number: str(names[number]) for number in sorted(names)}


def _read_labels(path: Path, names: Mapping[int, str], size: Size) -> list[tuple[int, list[float], list | None]]:
    """Return class, box and polygon of every object in a label file.

    Raises:
        BadSample: it cannot be read, or a line of it.
    """
    try:
        lines = read_label_text(path).splitlines()
    except (OSError, ValueError) as error:
        raise BadSample(path, f"the label file cannot be read ({error})") from error
    return [_parse(line, f"{path}:{number}", names, size) for number, line in enumerate(lines, start=1) if line.strip()]


def _parse(line: str, place: str, names: Mapping[int, str], size: Size) -> tuple[int, list[float], list | None]:
    """Return the class of a line, its box in pixels and its polygon, if it has one."""
    fields = line.split()
    count = len(fields)
    if count != BOX_FIELDS and not (count >= MIN_POLYGON_FIELDS and count % 2):
        raise BadSample(
            place, f"expected 'class cx cy width height' or a class and three or more corners, got {count} fields"
        )
    try:
        category, values = int(fields[0]), [float(value) for value in fields[1:]]
    except ValueError:
        raise BadSample(place, f"expected a class number and coordinates, got {line.strip()[:60]!r}") from None
    if category not in names:
        numbers = f"{len(names)} numbers from {min(names)} to {max(names)}"
        raise BadSample(place, f"class {str(category)[:20]} has no name; {numbers} have one")
    height, width = size
    pixels = [value * (height if index % 2 else width) for index, value in enumerate(values)]
    if count == BOX_FIELDS:
        x, y, box_width, box_height = pixels
        return category, [x - box_width / 2, y - box_height / 2, x + box_width / 2, y + box_height / 2], None
    if not all(map(math.isfinite, pixels)):
        return category, [math.nan] * 4, None  # dropped and counted with all other boxes that are not finite
    xs, ys = pixels[::2], pixels[1::2]
    if outline_length(pixels) > MAX_OUTLINE:
        raise BadSample(place, f"a polygon with an outline of more than {MAX_OUTLINE} pixels")
    return category, [min(xs), min(ys), max(xs), max(ys)], [pixels]
