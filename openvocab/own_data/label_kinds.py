"""Tell the kinds of label files apart by their content."""

from pathlib import Path

from openvocab.datasets.annotations.formats import is_json_list, label_extension
from openvocab.datasets.annotations.json_stream import read_members
from openvocab.datasets.annotations.label_studio import is_label_studio
from openvocab.datasets.annotations.labelme import is_labelme
from openvocab.datasets.files.folder_walk import is_image, walk_files
from openvocab.files.text_files import read_json, read_xml

COCO_MEMBERS = {"images", "annotations", "categories"}


def label_kind(labels: Path, images: Path) -> str:
    """Return the kind of the labels of some images, a key of `TASKS_OF`.

    Args:
        labels: file, or folder of one file per image.
        images: folder of the images.

    Raises:
        FileNotFoundError: no labels there.
        ValueError: labels of no kind that is read, or of several.
    """
    if not labels.is_dir():
        kind = kind_of_file(labels)
        if kind is None:
            raise ValueError(
                f"labels: {labels} is no file of COCO (.json), Label Studio (.json) or CVAT (.xml); for a folder of "
                "files, give the folder"
            )
        return kind
    has_pictures = any(map(is_image, walk_files(labels)))
    if has_pictures and labels.resolve() != images.resolve():
        return "label maps"
    return {".txt": "YOLO", ".xml": "Pascal VOC", ".json": "labelme"}[label_extension(labels, images)]


def kind_of_file(path: Path) -> str | None:
    """Return the kind of a file with the labels of many images; None if it is none, or one of a single image.

    A file that cannot be read is none.
    """
    try:
        if path.suffix.lower() == ".xml":
            return "CVAT" if read_xml(path).tag == "annotations" else None
        if path.suffix.lower() != ".json":
            return None
        if is_json_list(path):
            return "Label Studio" if is_label_studio(read_json(path)) else None
        return "COCO" if _is_coco(path) else None
    except (OSError, ValueError):
        return None


def is_labelme_file(path: Path) -> bool:
    """Return whether a file is one of labelme's, with the labels of one image."""
    try:
        return path.suffix.lower() == ".json" and not is_json_list(path) and is_labelme(read_json(path))
    except (OSError, ValueError):
        return False


def _is_coco(path: Path) -> bool:
    """Return whether a JSON object has COCO's members; those of captions have no categories."""
    found = set()
    for key, value in read_members(path, streamed=("annotations",)):
        found.add(key)
        if key == "annotations" and not isinstance(value, list):
            for _ in value:  # a streamed list must be exhausted
                pass
    return found >= COCO_MEMBERS
