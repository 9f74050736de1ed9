"""A Pascal-VOC folder: one XML file an image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from openvocab.datasets.annotation_list import AnnotationList, Columns, ImageEntry, note_lonely, raise_bad
from openvocab.datasets.folder_walk import files_by_key
from openvocab.datasets.image_header import read_image_size
from openvocab.datasets.image_io import BadSample
from openvocab.text_files import read_xml

EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: Path, image_folder: Path, on_bad: Callable[[BadSample], None] = raise_bad) -> AnnotationList:
    """Read the XML files of `folder`; categories are the names met, in alphabetical order.

    Coordinates are taken as edges in pixels, as today's labelling tools write them (VOC itself counts pixels from 1 and
    includes both ends: a difference of one pixel). Objects flagged `difficult` become crowds: neither learned nor
    counted as misses. Images without an XML file, and XML files without an image, are left out. There are no masks.

    Args:
        folder: of the XML files, searched recursively.
        image_folder: of the images, whose paths in it are those of their XML files but for the extension.
        on_bad: takes what is wrong with an image or its XML file, which are then left out: a size that cannot be read,
            a file that is not XML, an object without name or box. By default it is raised.

    Raises:
        FileNotFoundError: no XML file belongs to an image.
    """
    images = files_by_key(image_folder)
    files = files_by_key(folder, extensions=(".xml",))
    notes = note_lonely(files, images, "XML file")
    files = {key: path for key, path in files.items() if key in images}
    found = []
    for key, path in files.items():
        try:
            found.append((key, read_image_size(images[key]), _objects(path)))
        except BadSample as error:
            on_bad(error)
    names = sorted({name for _, _, objects in found for name, _, _ in objects})
    number = {name: place for place, name in enumerate(names)}
    columns, entries = Columns(with_masks=False), []
    for position, (key, size, objects) in enumerate(found):
        entries.append(ImageEntry(key, images[key].relative_to(image_folder).as_posix(), size))
        for name, box, difficult in objects:
            columns.append(position, number[name], box, difficult)
    columns.freeze()
    bare = [path.name for key, path in images.items() if key not in files]
    notes += [f"{len(bare)} images without an XML file are left out, the first is {bare[0]}"] if bare else []
    return AnnotationList(entries, names, list(range(len(names))), columns, notes=notes)


def _objects(path: Path) -> list[tuple[str, Sequence[float], bool]]:
    """Return (name, box, difficult) of every object in a file."""
    try:
        root = read_xml(path)
    except (OSError, ValueError) as error:
        raise BadSample(path, str(error).removeprefix(f"{path} ")) from error
    return [_object(element, path) for element in root.iter("object")]


def _object(element: Element, path: Path) -> tuple[str, Sequence[float], bool]:
    name = (element.findtext("name") or "").strip()
    try:
        box = [float(element.findtext(f"bndbox/{edge}")) for edge in EDGES]
    except (TypeError, ValueError):
        raise BadSample(path, f"object {name[:60]!r} needs a bndbox with the numbers {', '.join(EDGES)}") from None
    if not name:
        raise BadSample(path, "an object has no name")
    return name, box, (element.findtext("difficult") or "0").strip() == "1"
