"""Read an export of CVAT in its format "CVAT for images 1.1": one XML file for all images."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from pycocotools import mask as coco_mask

from openvocab.datasets.annotations.outlines import box_around, check_outline, ellipse, rectangle
from openvocab.datasets.annotations.packed_masks import MIN_CORNERS
from openvocab.datasets.annotations.records import AnnotationList, ColumnsBuilder, ImageEntry
from openvocab.files.file_values import number, whole_number
from openvocab.files.text_files import read_xml
from openvocab.images.image_io import MAX_PIXELS
from openvocab.structures import Size

WITHOUT_AREA = ("polyline", "points", "cuboid", "skeleton")
"""Shapes that are skipped, and counted in the log."""


@dataclass
class _Shape:
    """One labeled object of an image."""

    label: str
    box: list[float]
    """x1 y1 x2 y2 in pixels."""
    segmentation: list | dict[str, Any]
    z_order: int


@dataclass
class _Image:
    """One image of the file."""

    entry: ImageEntry
    shapes: list[_Shape] = field(default_factory=list)


def read_cvat(path: Path, with_masks: bool) -> AnnotationList:
    """Read boxes (turned ones, too), polygons, ellipses and masks; the categories are the labels of the task.

    A shape with a higher `z_order` lies above the others. Lines, points, cuboids and skeletons are skipped; a note in
    the log counts them.

    Args:
        path: the XML file.
        with_masks: keep the outlines; those of boxes and ellipses, too.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of this format, or of tracks in a video; a shape that is malformed, or has a label that
            the task does not list.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point annotations to it")
    root = read_xml(path)
    if root.tag != "annotations":
        raise ValueError(f"{path}: expected CVAT's outermost element <annotations>, got <{root.tag[:60]}>")
    if root.find("track") is not None:
        raise ValueError(f"{path}: it holds tracks of a video; export the task in the format 'CVAT for images 1.1'")
    images = [_image(element, path) for element in root.iter("image")]
    if not images:
        raise ValueError(f"{path}: expected <image> elements of the format 'CVAT for images 1.1', found none")
    names = _label_names(root, images)
    category_of = {name: index for index, name in enumerate(names)}
    builder = ColumnsBuilder(with_masks)
    for position, image in enumerate(images):
        for shape in sorted(image.shapes, key=lambda shape: shape.z_order):
            category = category_of.get(shape.label)
            if category is None:
                raise ValueError(
                    f"{path}: image {image.entry.path} has a shape with the label {shape.label[:60]!r}, which is not "
                    "among the labels of the task in <meta>"
                )
            builder.append(position, category, shape.box, segmentation=shape.segmentation)
    skipped = sum(len(root.findall(f"image/{kind}")) for kind in WITHOUT_AREA)
    notes = [f"{skipped} lines, points, cuboids and skeletons are skipped"] if skipped else []
    ids = list(range(len(names)))
    return AnnotationList(
        [image.entry for image in images], names, ids, builder.build(), notes=notes, later_is_above=True
    )


def _label_names(root: Element, images: list[_Image]) -> list[str]:
    """Return the labels of the task; those of the shapes, in alphabetical order, if the file lists none."""
    meta = root.find("meta")
    names = [
        (element.text or "").strip() for element in ([] if meta is None else meta.iterfind(".//labels/label/name"))
    ]
    return [*dict.fromkeys(names)] or sorted({shape.label for image in images for shape in image.shapes})


def _image(element: Element, path: Path) -> _Image:
    name = element.get("name") or ""
    where = f"{path}: image {element.get('id', '?')} ({name})"
    try:
        size = whole_number(element.get("height"), "height"), whole_number(element.get("width"), "width")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if not name or min(size) < 1:
        raise ValueError(f"{where}: expected a name, a height and a width")
    image = _Image(ImageEntry(image_id=element.get("id") or name, path=name.replace("\\", "/"), size=size))
    for index, child in enumerate(element):
        try:
            shape = _shape(child, size)
        except ValueError as error:
            raise ValueError(f"{where}: <{child.tag}> {index} (from 0): {error}") from None
        if shape is not None:
            image.shapes.append(shape)
    return image


def _shape(element: Element, size: Size) -> _Shape | None:
    """Return the object of an element; None if it is no object or has no area.

    Raises:
        ValueError: a malformed one.
    """
    readers = {"box": _box, "polygon": _polygon, "ellipse": _ellipse}
    if element.tag not in (*readers, "mask"):
        return None
    label = (element.get("label") or "").strip()
    if not label:
        raise ValueError("it has no label")
    z_order = whole_number(element.get("z_order") or 0, "z_order")
    if element.tag == "mask":
        box, runs = _mask(element, size)
        return _Shape(label, box, runs, z_order)
    outline = readers[element.tag](element)
    check_outline(outline)
    return _Shape(label, box_around([outline]), [outline], z_order)


def _values(element: Element, *names: str) -> list[float]:
    return [number(element.get(name), name) for name in names]


def _box(element: Element) -> list[float]:
    x1, y1, x2, y2 = _values(element, "xtl", "ytl", "xbr", "ybr")
    return rectangle(x1, y1, x2, y2, number(element.get("rotation") or 0, "rotation"))


def _ellipse(element: Element) -> list[float]:
    x, y, radius_x, radius_y = _values(element, "cx", "cy", "rx", "ry")
    return ellipse(x, y, radius_x, radius_y, number(element.get("rotation") or 0, "rotation"))


def _polygon(element: Element) -> list[float]:
    points = [point.split(",") for point in (element.get("points") or "").split(";")]
    if len(points) < MIN_CORNERS or any(len(point) != 2 for point in points):
        raise ValueError(f"expected points='x,y;x,y;x,y', got {(element.get('points') or '')[:60]!r}")
    return [number(value, "points") for point in points for value in point]


def _mask(element: Element, size: Size) -> tuple[list[float], dict[str, Any]]:
    """Return the box of a mask, and its run lengths in COCO's form: CVAT's go row by row through the box."""
    left, top, width, height = (whole_number(element.get(name), name) for name in ("left", "top", "width", "height"))
    runs = [whole_number(run, "rle") for run in (element.get("rle") or "").split(",")]
    if size[0] * size[1] > MAX_PIXELS:
        raise ValueError(f"a mask in an image of {size[0]}x{size[1]}, more than {MAX_PIXELS} pixels")
    if min(left, top, width - 1, height - 1, *runs) < 0 or top + height > size[0] or left + width > size[1]:
        raise ValueError("a mask that reaches beyond its image, or has negative numbers")
    if sum(runs) != width * height:
        raise ValueError(f"runs of {sum(runs)} pixels in all, for a mask of {height}x{width}")
    part = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[top : top + height, left : left + width] = part
    return [left, top, left + width, top + height], coco_mask.encode(pixels)
