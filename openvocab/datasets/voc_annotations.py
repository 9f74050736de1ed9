"""A Pascal-VOC folder: one XML file an image."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from openvocab.datasets.annotation_list import AnnotationList, Columns, ImageEntry, note_lonely
from openvocab.datasets.image_header import read_image_size
from openvocab.datasets.image_label_pairs import files_by_key

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: Path, image_folder: Path) -> AnnotationList:
    """Read the XML files of `folder`; categories are the names met, in alphabetical order.

    Coordinates are taken as edges in pixels, as today's labelling tools write them (VOC itself counts pixels from 1 and
    includes both ends: a difference of one pixel). Objects flagged `difficult` become crowds: neither learned nor
    counted as misses. Images without an XML file, and XML files without an image, are left out. There are no masks.

    Args:
        folder: of the XML files, searched recursively.
        image_folder: of the images, whose paths in it are those of their XML files but for the extension.

    Raises:
        FileNotFoundError: no XML file belongs to an image.
        ValueError: a file that is not XML, or an object without name or box, with the file.
        BadSample: an image whose size cannot be read.
    """
    images = files_by_key(image_folder)
    files = {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.xml"))}
    notes = note_lonely(files, images, "XML file")
    files = {key: path for key, path in files.items() if key in images}
    objects = {key: _objects(path) for key, path in files.items()}
    names = sorted({name for of_image in objects.values() for name, _, _ in of_image})
    number = {name: place for place, name in enumerate(names)}
    columns, entries = Columns(with_masks=False), []
    for position, (key, of_image) in enumerate(objects.items()):
        entries.append(ImageEntry(key, images[key].relative_to(image_folder).as_posix(), read_image_size(images[key])))
        for name, box, difficult in of_image:
            columns.append(position, number[name], box, difficult)
    columns.freeze()
    bare = len(images) - len(files)
    notes += [f"{bare} images without an XML file are left out"] if bare else []
    return AnnotationList(entries, names, list(range(len(names))), columns, notes=notes)


def _objects(path: Path) -> list[tuple[str, Sequence[float], bool]]:
    """Return (name, box, difficult) of every object in a file."""
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from error
    return [_object(element, path) for element in root.iter("object")]


def _object(element: ElementTree.Element, path: Path) -> tuple[str, Sequence[float], bool]:
    name = (element.findtext("name") or "").strip()
    try:
        box = [float(element.findtext(f"bndbox/{edge}")) for edge in EDGES]
    except (TypeError, ValueError):
        raise ValueError(f"{path}: object {name!r} needs a bndbox with the numbers {', '.join(EDGES)}") from None
    if not name:
        raise ValueError(f"{path}: an object has no name")
    return name, box, (element.findtext("difficult") or "0").strip() == "1"
