"""Recognize the format of labeled objects by the content of their files, and read them."""

from collections.abc import Callable
from pathlib import Path

from openvocab.datasets.annotations.coco import read_coco
from openvocab.datasets.annotations.cvat import read_cvat
from openvocab.datasets.annotations.label_studio import read_label_studio
from openvocab.datasets.annotations.labelme import read_labelme
from openvocab.datasets.annotations.records import AnnotationList, raise_bad
from openvocab.datasets.annotations.voc import read_voc
from openvocab.datasets.annotations.yolo import YoloYaml, read_yolo
from openvocab.datasets.files.folder_walk import IMAGE_EXTENSIONS, files_by_key, walk_files
from openvocab.files.regular_files import open_regular
from openvocab.images.image_io import BadSample

FOLDER_FORMATS = {".txt": "YOLO", ".xml": "VOC", ".json": "labelme"}
"""Formats with one file per image, by the extension of the files."""
_PROBE = 4096
"""Bytes at the start of a file that show whether it holds a list or an object."""


def read_annotations(
    source: Path,
    images: Path,
    *,
    with_masks: bool,
    yolo: Callable[[], YoloYaml],
    on_bad: Callable[[BadSample], None] = raise_bad,
) -> AnnotationList:
    """Read labeled objects in any of the formats.

    Args:
        source: a COCO, LVIS or Label Studio file (`.json`), one of CVAT (`.xml`), or a folder of files of YOLO
            (`.txt`), Pascal VOC (`.xml`) or labelme (`.json`).
        images: folder of the images.
        with_masks: keep the outlines.
        yolo: returns the names of YOLO's class numbers; called for that format only.
        on_bad: see `read_yolo`.

    Raises:
        FileNotFoundError, ValueError: see the reader of the format.
    """
    if not source.is_dir():
        return _read_file(source, images, with_masks)
    extension = label_extension(source, images)
    if extension == ".json":
        return read_labelme(source, images, with_masks, on_bad)
    if extension == ".txt":
        given = yolo()
        return read_yolo(source, images, given.names, with_masks, on_bad, given.keypoint_values)
    if with_masks:
        raise ValueError(f"with_masks=True, but Pascal-VOC files ({source}) hold boxes only")
    return read_voc(source, images, on_bad)


def label_extension(source: Path, images: Path) -> str:
    """Return the extension of the label files in a folder; if there are several, that of the files that have images.

    Raises:
        FileNotFoundError: no label file.
        ValueError: files of several have images.
    """
    found = {path.suffix.lower() for path in walk_files(source)} & {*FOLDER_FORMATS}
    if not found:
        raise FileNotFoundError(
            f"annotations: {source} holds neither .txt (YOLO) nor .xml (VOC) nor .json (labelme) files; give a file of "
            "COCO, CVAT or Label Studio by its name"
        )
    if len(found) > 1:
        keys = files_by_key(images, extensions=IMAGE_EXTENSIONS).keys()
        with_images = {one for one in found if keys & files_by_key(source, extensions=(one,)).keys()}
        if len(with_images) > 1:
            kinds = " and ".join(f"{one} ({FOLDER_FORMATS[one]})" for one in sorted(with_images))
            raise ValueError(
                f"annotations: {source} holds {kinds} files of images; move one kind to a folder of its own"
            )
        found = with_images or found
    return max(found)


def is_json_list(path: Path) -> bool:
    """Return whether a JSON file holds a list, as those of Label Studio do; False for one that cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(_PROBE).decode("utf-8-sig", errors="replace").lstrip().startswith("[")
    except (OSError, ValueError):
        return False


def _read_file(source: Path, images: Path, with_masks: bool) -> AnnotationList:
    if source.suffix.lower() == ".xml":
        return read_cvat(source, with_masks)
    if is_json_list(source):
        return read_label_studio(source, images, with_masks)
    return read_coco(source, with_masks)
