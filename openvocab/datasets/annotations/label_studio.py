"""Read an export of Label Studio in its format "JSON": a list of tasks, with shapes in percent of the image."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from openvocab.datasets.annotations.outlines import Outline, box_around, check_outline, ellipse, rectangle, turned
from openvocab.datasets.annotations.packed_masks import MIN_CORNERS
from openvocab.datasets.annotations.records import AnnotationList, ColumnsBuilder, ImageEntry
from openvocab.datasets.files.folder_walk import check_folder, is_image, list_images, normal_key
from openvocab.files.file_values import number, numbers, whole_number
from openvocab.files.text_files import read_json
from openvocab.structures import Size

PERCENT = 100
_UPLOAD = re.compile(r"[0-9a-f]{8}-")
"""What Label Studio puts before the name of an uploaded file."""
WITHOUT_AREA = ("keypointlabels", "choices", "textarea", "rating", "number", "taxonomy", "relation", "labels")


def read_label_studio(path: Path, image_folder: Path, with_masks: bool) -> AnnotationList:
    """Read rectangles (turned ones, too), polygons and ellipses; the categories are their names, in alphabetical order.

    An image is found by the end of its address, with or without the eight characters that Label Studio puts before the
    name of an uploaded file. A task without an annotation is dropped, one with an empty annotation is an image without
    objects. A later shape lies above an earlier one.

    Args:
        path: the JSON file.
        image_folder: searched recursively.
        with_masks: keep the outlines; those of rectangles and ellipses, too.

    Raises:
        FileNotFoundError: no such file, or an image that is not in the folder.
        ValueError: not a file of this format, several annotations of one task, a brush mask, or a malformed shape.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point annotations to it")
    content = read_json(path)
    if not is_label_studio(content):
        raise ValueError(
            f"{path}: expected an export of Label Studio in its format 'JSON' (not 'JSON-MIN'), a list of tasks with "
            "'data' and 'annotations'"
        )
    files = _files_by_name(check_folder(image_folder, "images"))
    entries: list[ImageEntry] = []
    rows: list[tuple[int, str, Outline]] = []
    unlabeled = 0
    for index, task in enumerate(content):
        where = f"{path}: task {task.get('id', index)}"
        results = _results(task, where)
        if results is None:
            unlabeled += 1
            continue
        image = _image_of(task["data"], files, image_folder, where)
        size, shapes = _shapes(results, where)
        rows += [(len(entries), name, outline) for name, outline in shapes]
        entries.append(ImageEntry(str(task.get("id", index)), image.relative_to(image_folder).as_posix(), size))
    names = sorted({name for _, name, _ in rows})
    builder = ColumnsBuilder(with_masks)
    for position, name, outline in rows:
        builder.append(position, names.index(name), box_around([outline]), segmentation=[outline])
    notes = [f"{unlabeled} tasks without an annotation are dropped"] if unlabeled else []
    ids = list(range(len(names)))
    return AnnotationList(entries, names, ids, builder.build(), notes=notes, later_is_above=True)


def is_label_studio(content: Any) -> bool:
    """Return whether the content of a JSON file is a list of Label Studio's tasks."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(
            isinstance(task, Mapping)
            and isinstance(task.get("data"), Mapping)
            and isinstance(task.get("annotations"), list)
            for task in content
        )
    )


def _results(task: Mapping[str, Any], where: str) -> list[Any] | None:
    """Return the shapes of the one annotation of a task; None if it has none."""
    valid = [one for one in task["annotations"] if isinstance(one, Mapping) and not one.get("was_cancelled")]
    if len(valid) > 1:
        raise ValueError(f"{where} has {len(valid)} annotations, of which one must be chosen; delete the others")
    if not valid:
        return None
    results = valid[0].get("result")
    if not isinstance(results, list):
        raise ValueError(f"{where}: expected a list under 'result', got {str(results)[:60]}")
    return results


def _files_by_name(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a folder by name, and by name without what Label Studio puts before it."""
    by_name: dict[str, list[Path]] = {}
    for path in list_images(folder):
        by_name.setdefault(normal_key(path.name), []).append(path)
    return by_name


def _image_of(data: Mapping[str, Any], files: Mapping[str, Sequence[Path]], folder: Path, where: str) -> Path:
    """Return the file of a task's image."""
    addresses = [value for value in data.values() if isinstance(value, str)]
    images = [PurePosixPath(path) for path in map(_path_in, addresses) if is_image(Path(path))]
    if len(images) != 1:
        raise ValueError(f"{where}: expected one image in 'data', got {str(dict(data))[:80]}")
    name = normal_key(images[0].name)
    found = files.get(name) or files.get(_UPLOAD.sub("", name, count=1)) or ()
    if len(found) > 1:
        ends = [path for path in found if _ends_alike(path.relative_to(folder), images[0])]
        found = ends if len(ends) == 1 else found
    if not found:
        raise FileNotFoundError(f"{where}: no image {images[0].name} in {folder}; point images to the folder of photos")
    if len(found) > 1:
        raise ValueError(f"{where}: {images[0].name} may be {found[0]} or {found[1]}; rename one")
    return found[0]


def _path_in(address: str) -> str:
    """Return the path in the address of an image, such as /data/local-files/?d=photos/a.jpg."""
    parts = urlsplit(address.replace("\\", "/"))
    local = parse_qs(parts.query).get("d")
    return unquote(local[0] if local else parts.path)


def _ends_alike(path: Path, address: PurePosixPath) -> bool:
    return normal_key(path.as_posix()) == "/".join(normal_key(address.as_posix()).split("/")[-len(path.parts) :])


def _shapes(results: list[Any], where: str) -> tuple[Size | None, list[tuple[str, Outline]]]:
    """Return the size of the image, None if nothing states it, and name and outline of each shape."""
    sizes: set[Size] = set()
    shapes: list[tuple[str, Outline]] = []
    for index, result in enumerate(results):
        try:
            if not isinstance(result, Mapping):
                raise ValueError(f"expected an object, got {str(result)[:60]}")
            kind = str(result.get("type"))
            if kind in WITHOUT_AREA or not isinstance(result.get("value"), Mapping):
                continue
            height, width = (whole_number(result.get(side), side) for side in ("original_height", "original_width"))
            sizes.add((height, width))
            shapes.append(_shape(kind, result["value"], (height, width), result.get("image_rotation")))
        except ValueError as error:
            raise ValueError(f"{where}: result {index} (from 0): {error}") from None
    if len(sizes) > 1:
        raise ValueError(f"{where}: its shapes state images of different sizes (height, width): {sorted(sizes)[:3]}")
    return (sizes.pop() if sizes else None), shapes


def _shape(kind: str, value: Mapping[str, Any], size: Size, image_rotation: Any) -> tuple[str, Outline]:
    """Return the name and the outline, in pixels, of a shape in percent of an image of `size`."""
    if number(image_rotation or 0, "image_rotation"):
        raise ValueError("the image was turned while it was labeled; turn the photo itself, and label it again")
    if kind == "brushlabels":
        raise ValueError("a mask drawn by a brush, which is not read; export the brushes as PNG label maps")
    names = value.get(kind)
    if not isinstance(names, list) or len(names) != 1 or not isinstance(names[0], str) or not names[0].strip():
        raise ValueError(f"expected one name under {kind!r}, got {str(names)[:60]}")
    height, width = size
    turn = number(value.get("rotation") or 0, "rotation")
    if kind == "rectanglelabels":
        outline = _turned_rectangle(_pixels(value, ("x", "y", "width", "height"), size), turn)
    elif kind == "ellipselabels":
        x, y, radius_x, radius_y = _pixels(value, ("x", "y", "radiusX", "radiusY"), size)
        outline = ellipse(x, y, radius_x, radius_y, turn)
    elif kind == "polygonlabels":
        points = value.get("points")
        if not isinstance(points, list) or len(points) < MIN_CORNERS:
            raise ValueError(f"expected at least {MIN_CORNERS} 'points', got {str(points)[:60]}")
        corners = [numbers(point, "points", 2) for point in points]
        outline = [side * part / PERCENT for point in corners for part, side in zip(point, (width, height))]
    else:
        raise ValueError(f"expected a rectangle, a polygon or an ellipse, got {kind!r}")
    check_outline(outline)
    return names[0], outline


def _pixels(value: Mapping[str, Any], keys: Sequence[str], size: Size) -> list[float]:
    """Return four percentages, the first and third of the width and the others of the height, in pixels."""
    height, width = size
    parts = [number(value.get(key), key) for key in keys]
    return [part * side / PERCENT for part, side in zip(parts, (width, height, width, height))]


def _turned_rectangle(sides: Sequence[float], degrees: float) -> Outline:
    """Return the corners of a rectangle x, y, width, height that is turned around its first corner."""
    x, y, width, height = sides
    return turned(rectangle(x, y, x + width, y + height), (x, y), degrees)
