"""Find the folder of the images that a file of labels lists, and the folders of a common layout by their names."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from openvocab.datasets.annotations.coco import read_coco
from openvocab.datasets.annotations.cvat import read_cvat
from openvocab.datasets.annotations.label_studio import read_label_studio
from openvocab.datasets.files.folder_walk import visible_entries

IMAGE_FOLDERS = ("images", "photos", "jpegimages", "imgs", "img", "obj_train_data")
LABEL_FOLDERS = (
    "labels", "masks", "annotations", "label_maps", "labelmaps", "segmentationclass", "xmls", "jsons", "obj_train_data",
)  # fmt: skip
_NO_IMAGES = frozenset(LABEL_FOLDERS) - frozenset(IMAGE_FOLDERS)
PART_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
_PROBED = 20
"""Images of a file whose presence in a folder shows that it is their folder."""
MAX_LISTED = 4


def images_of(file: Path, kind: str, folder: Path) -> Path:
    """Return the folder that the names of images in a file of labels are relative to.

    Raises:
        FileNotFoundError: no folder near the file has them.
        ValueError: several have.
    """
    names = None if kind == "Label Studio" else _image_names(file, kind)
    found: dict[Path, int] = {}
    for candidate in _image_folders(file, folder):
        count = _number_of_images(file, candidate, names)
        if 2 * count > len(names or ()) and not any(one.samefile(candidate) for one in found):
            found[candidate] = count
    fitting = [one for one, count in found.items() if count == max(found.values())]
    if kind == "Label Studio":  # found by name, below any folder: the innermost ones
        fitting = [one for one in fitting if not any(one in other.parents for other in fitting)]
    if not fitting:
        example = f", such as {names[0]}," if names else ""
        raise FileNotFoundError(
            f"data: the images of {file}{example} are not found near it; pass a data file with images: FOLDER and "
            f"labels: {file.name}"
        )
    if len(fitting) > 1:
        raise ValueError(
            f"data: the images of {file} may be those in {listed(fitting)}; pass a data file with images: FOLDER and "
            f"labels: {file.name}"
        )
    return fitting[0]


def _image_names(file: Path, kind: str) -> list[str]:
    found = read_coco(file, with_masks=False) if kind == "COCO" else read_cvat(file, with_masks=False)
    return [entry.path for entry in found.images[:_PROBED]]


def _number_of_images(file: Path, folder: Path, names: Sequence[str] | None) -> int:
    """Return how many of the names are files in a folder; for Label Studio, whose names are addresses, 1 if all are."""
    if names is not None:
        return sum((folder / name).is_file() for name in names)
    try:
        read_label_studio(file, folder, with_masks=False)
    except FileNotFoundError:
        return 0
    return 1


def _image_folders(file: Path, folder: Path) -> Iterator[Path]:
    """Yield the folders near a file of labels that may hold its images, each once."""
    above = [file.parent.parent] if file.parent != folder or may_hold_label_files(file.parent) else []
    bases = dict.fromkeys([file.parent, folder, *above])
    seen: set[Path] = set()
    for base in bases:
        below = [one for one in visible_entries(base)[1] if one.name.lower() not in _NO_IMAGES]
        inner = [one for each in below if each.name.lower() in IMAGE_FOLDERS for one in visible_entries(each)[1]]
        for candidate in (base, *below, *inner):
            if candidate not in seen:
                seen.add(candidate)
                yield candidate


def may_hold_label_files(folder: Path) -> bool:
    """Return whether a folder is one of labels, or of one part of the data, by its name."""
    return folder.name.lower() in LABEL_FOLDERS or folder.name.lower() in PART_WORDS


def listed(paths: Sequence[Path]) -> str:
    """Return the first paths for a message."""
    return " and ".join(map(str, paths[:MAX_LISTED]))
