"""Read a Pascal-VOC folder: one XML file per image."""

from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree.ElementTree import Element

from openvocab.datasets.annotations.box_checks import check_are_pixels
from openvocab.datasets.annotations.records import AnnotationList, ColumnsBuilder, ImageEntry, note_orphans, raise_bad
from openvocab.datasets.annotations.stated_size import check_stated_size
from openvocab.datasets.files.folder_walk import files_by_key
from openvocab.files.file_values import flag, number
from openvocab.files.text_files import read_xml
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.structures import Size

UNSTATED = ("", "unspecified")
"""Values that tools write into a flag that is not set."""
EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_voc(folder: Path, image_folder: Path, on_bad: Callable[[BadSample], None] = raise_bad) -> AnnotationList:
    """Read the XML files of `folder`; the categories are the names of their objects, in alphabetical order.

    Coordinates are edges in pixels, as today's labeling tools write them (VOC itself counts pixels from 1 and includes
    both ends: a difference of one pixel). Objects flagged `difficult` become crowds: they are neither learned nor
    counted as misses. The `size` in a file must be that of its image; 0 means that it is not stated. Unlabeled images
    and orphan XML files are skipped. There are no masks.

    Args:
        folder: folder of the XML files, searched recursively.
        image_folder: folder of the images, whose paths differ from those of their labels in the extension only.
        on_bad: called with the error of an image or its XML file, which are then skipped: a size that cannot be read, a
            file that is malformed or states another size, an object without a name or box. Default: raise it.

    Raises:
        FileNotFoundError: no XML file belongs to an image.
        ValueError: boxes in fractions of the image.
    """
    images = files_by_key(image_folder)
    files = files_by_key(folder, extensions=(".xml",))
    notes = note_orphans(files, images, "XML file")
    files = {key: path for key, path in files.items() if key in images}
    labeled = []
    for key, path in files.items():
        try:
            size = read_image_size(images[key])
            labeled.append((key, size, _objects(path, size)))
        except BadSample as error:
            on_bad(error)
    names = sorted({name for _, _, objects in labeled for name, _, _ in objects})
    category_of = {name: index for index, name in enumerate(names)}
    builder, entries = ColumnsBuilder(with_masks=False), []
    for position, (key, size, objects) in enumerate(labeled):
        entries.append(ImageEntry(key, images[key].relative_to(image_folder).as_posix(), size))
        for name, box, difficult in objects:
            builder.append(position, category_of[name], box, difficult)
    columns = builder.build()
    check_are_pixels(columns.boxes, str(folder))
    unlabeled = [path.name for key, path in images.items() if key not in files]
    if unlabeled:
        notes.append(f"{len(unlabeled)} images without an XML file are dropped; the first is {unlabeled[0]}")
    return AnnotationList(entries, names, list(range(len(names))), columns, notes=notes)


def _objects(path: Path, size: Size) -> list[tuple[str, Sequence[float], bool]]:
    """Return (name, box, difficult) of every object in the file of an image of `size`."""
    try:
        root = read_xml(path)
    except (OSError, ValueError) as error:
        raise BadSample(path, str(error).removeprefix(f"{path} ")) from error
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without a namespace
    if root.tag != "annotation":
        raise BadSample(path, f"expected a Pascal-VOC file, whose outermost element is <annotation>, got <{root.tag}>")
    if root.find("image") is not None:
        raise BadSample(path, "expected a Pascal-VOC file of one image, got one of many (<image> elements, as of CVAT)")
    _check_size(root, path, size)
    return [_object(element, path) for element in root.iter("object")]


def _check_size(root: Element, path: Path, size: Size) -> None:
    """Check that the size which the file states, if any, is that of its image."""
    members = {f"size/{side}": (root.findtext(f"size/{side}") or "").strip() for side in ("height", "width")}
    question = "are the boxes for this image? Correct the size, or remove it"
    check_stated_size(members, size, path, "its size says", question)


def _object(element: Element, path: Path) -> tuple[str, Sequence[float], bool]:
    name = (element.findtext("name") or "").strip()
    try:
        box = [number(element.findtext(f"bndbox/{edge}"), edge) for edge in EDGES]
    except ValueError:
        raise BadSample(path, f"object {name[:60]!r} needs a bndbox with the numbers {', '.join(EDGES)}") from None
    if not name:
        raise BadSample(path, "an object has no name")
    difficult = (element.findtext("difficult") or "").strip()
    try:
        return name, box, difficult.lower() not in UNSTATED and flag(difficult, "difficult")
    except ValueError as error:
        raise BadSample(path, f"object {name[:60]!r}: {error}") from None
