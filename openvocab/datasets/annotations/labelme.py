"""Read a folder of labelme: one JSON file per image, with polygons, rectangles and circles."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from openvocab.datasets.annotations.outlines import Outline, box_around, check_outline, ellipse, rectangle
from openvocab.datasets.annotations.packed_masks import MIN_CORNERS
from openvocab.datasets.annotations.records import AnnotationList, ColumnsBuilder, ImageEntry, note_orphans, raise_bad
from openvocab.datasets.annotations.stated_size import check_stated_size
from openvocab.datasets.files.folder_walk import files_by_key
from openvocab.files.file_values import numbers
from openvocab.files.text_files import parse_json, read_label_text
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.structures import Size

WITHOUT_AREA = ("line", "linestrip", "point", "points")
"""Types of shapes that are skipped, and counted in the log."""
Object = tuple[str, list[Outline]]


def read_labelme(
    folder: Path, image_folder: Path, with_masks: bool, on_bad: Callable[[BadSample], None] = raise_bad
) -> AnnotationList:
    """Read the JSON files of `folder`; the categories are the names of their objects, in alphabetical order.

    Shapes with the same name and `group_id` are the parts of one object. A later shape lies above an earlier one. The
    pixels in `imageData` are not read. Unlabeled images and orphan JSON files are skipped.

    Args:
        folder: folder of the JSON files, searched recursively.
        image_folder: folder of the images, whose paths differ from those of their labels in the extension only.
        with_masks: keep the outlines; those of rectangles and circles, too.
        on_bad: called with the error of an image or its JSON file, which are then skipped: a size that cannot be read,
            a file that is malformed or states another size, a shape that is no outline. Default: raise it.

    Raises:
        FileNotFoundError: no JSON file belongs to an image.
    """
    images = files_by_key(image_folder)
    files = files_by_key(folder, extensions=(".json",))
    notes = note_orphans(files, images, "JSON file")
    labeled: list[tuple[str, Size, list[Object]]] = []
    skipped = 0
    for key, path in files.items():
        if key not in images:
            continue
        try:
            size = read_image_size(images[key])
            objects, lines = _objects(path, size)
        except BadSample as error:
            on_bad(error)
            continue
        labeled.append((key, size, objects))
        skipped += lines
    names = sorted({name for _, _, objects in labeled for name, _ in objects})
    category_of = {name: index for index, name in enumerate(names)}
    builder, entries = ColumnsBuilder(with_masks), []
    for position, (key, size, objects) in enumerate(labeled):
        entries.append(ImageEntry(key, images[key].relative_to(image_folder).as_posix(), size))
        for name, outlines in objects:
            builder.append(position, category_of[name], box_around(outlines), segmentation=outlines)
    unlabeled = [path.name for key, path in images.items() if key not in files]
    if unlabeled:
        notes.append(f"{len(unlabeled)} images without a JSON file are dropped; the first is {unlabeled[0]}")
    if skipped:
        notes.append(f"{skipped} lines and points, which have no area, are skipped")
    return AnnotationList(entries, names, list(range(len(names))), builder.build(), notes=notes, later_is_above=True)


def is_labelme(content: Any) -> bool:
    """Return whether the content of a JSON file is one of labelme's."""
    return isinstance(content, Mapping) and isinstance(content.get("shapes"), list)


def _objects(path: Path, size: Size) -> tuple[list[Object], int]:
    """Return name and outlines of every object of an image of `size`, and the number of shapes that are skipped.

    Raises:
        BadSample: the file or a shape cannot be used.
    """
    try:
        content = parse_json(read_label_text(path), path)
    except (OSError, ValueError) as error:
        raise BadSample(path, str(error).removeprefix(f"{path} ")) from error
    if not is_labelme(content):
        raise BadSample(path, "expected a file of labelme, an object with the list 'shapes'")
    _check_size(content, path, size)
    objects: list[Object] = []
    group_of: dict[tuple[str, str], list[Outline]] = {}
    skipped = 0
    for index, shape in enumerate(content["shapes"]):
        try:
            name, outline = _shape(shape)
        except ValueError as error:
            raise BadSample(path, f"shape {index} (from 0): {error}") from None
        if outline is None:
            skipped += 1
            continue
        group = shape.get("group_id")
        if group is not None and (name, str(group)) in group_of:
            group_of[name, str(group)].append(outline)
            continue
        outlines = [outline]
        objects.append((name, outlines))
        if group is not None:
            group_of[name, str(group)] = outlines
    return objects, skipped


def _check_size(content: Mapping[str, Any], path: Path, size: Size) -> None:
    """Check that the size which the file states, if any, is that of its image."""
    members = {side: content.get(side) for side in ("imageHeight", "imageWidth")}
    check_stated_size(members, size, path, "it states an image of", "are the shapes for this image?")


def _shape(shape: Any) -> tuple[str, Outline | None]:
    """Return the name and the outline of a shape; no outline for one without an area.

    Raises:
        ValueError: it is malformed, or a mask.
    """
    if not isinstance(shape, Mapping) or not isinstance(shape.get("points"), list):
        raise ValueError(f"expected an object with 'label' and 'points', got {str(shape)[:60]}")
    name, kind = shape.get("label"), shape.get("shape_type") or "polygon"
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"expected a name under 'label', got {str(name)[:60]!r}")
    if kind in WITHOUT_AREA:
        return name, None
    points = [numbers(point, "points", 2) for point in shape["points"]]
    return name, _checked_outline(str(kind), points)


def _checked_outline(kind: str, points: list[list[float]]) -> Outline:
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        outline = rectangle(x1, y1, x2, y2)
    elif kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        outline = ellipse(x, y, radius, radius)
    elif kind in ("polygon", "rectangle", "oriented_rectangle") and len(points) >= MIN_CORNERS:
        outline = [value for point in points for value in point]
    elif kind == "mask":
        raise ValueError("a mask, which is not read; turn it into a polygon in labelme, or export label maps")
    else:
        raise ValueError(f"expected a polygon, rectangle or circle, got {kind!r} of {len(points)} points")
    check_outline(outline)
    return outline
