"""Read all images and labels of a user's data once, and count what is in them."""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from openvocab.datasets.annotations.box_checks import REASONS, check_boxes
from openvocab.datasets.annotations.filtering import CLIP_TOLERANCE, complete_sizes, spell_paths
from openvocab.datasets.annotations.formats import read_annotations
from openvocab.datasets.annotations.records import AnnotationList
from openvocab.datasets.annotations.yolo import YoloYaml, read_yolo_yaml
from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.files.folder_walk import files_by_key, is_image
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.files.regular_files import read_regular
from openvocab.images.image_io import BadSample, read_image
from openvocab.own_data.parts import OwnData, Task
from openvocab.registry import DATASETS
from openvocab.structures import Sample, Size, ignore_index

THUMBNAIL = 16
"""Side, in pixels, of the pictures by which near duplicates are found."""


@dataclass
class ImageFacts:
    """What is known of one image."""

    path: Path
    size: Size | None = None
    """(height, width); None if it cannot be read."""
    digest: str = ""
    """SHA-256 of the file."""
    thumbnail: np.ndarray | None = None
    """(THUMBNAIL, THUMBNAIL, 3) uint8."""


@dataclass
class PartSurvey:
    """What is in one part of the data."""

    images: list[ImageFacts] = field(default_factory=list)
    class_images: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(K,) number of images with each class."""
    class_amounts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(K,) pixels, or boxes, of each class."""
    unlabeled_pixels: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    """{path: reason} of images."""
    bad_labels: dict[str, str] = field(default_factory=dict)
    """{path: reason} of labels that are malformed or do not fit their image."""
    unknown_ids: dict[str, list[int]] = field(default_factory=dict)
    """{path: ids} of label maps with ids that have no name."""
    unlabeled: list[str] = field(default_factory=list)
    """Images without labels."""
    orphans: list[str] = field(default_factory=list)
    """Labels without an image."""
    bad_boxes: dict[str, list[str]] = field(default_factory=dict)
    """{what is wrong: images, one entry per box}."""
    failure: str = ""
    """Why the dataset cannot be built at all."""

    @property
    def sizes(self) -> np.ndarray:
        """(N, 2) int64 heights and widths of the images that can be read."""
        return np.array([one.size for one in self.images if one.size is not None], np.int64).reshape(-1, 2)


def survey_part(
    data: OwnData, part: str, task: Task, folder: Path, progress: Callable[[int, int], None] | None = None
) -> PartSurvey:
    """Read one part of the data, and go on after everything that is wrong with it.

    Args:
        data: with names.
        part: a key of `data.parts`.
        task: what the data is used for.
        folder: where the list of the part's keys is written, if no file of the user lists them.
        progress: called with the number of images done, and of all.
    """
    survey = PartSurvey(class_images=np.zeros(len(data.names or ()), np.int64))
    survey.class_amounts = survey.class_images.copy()
    try:
        _compare_files(data, part, survey)
        if data.kind != "label maps":
            _check_objects(data, part, survey)
        changes: dict[str, Any] = {"loading": dict(bad_samples="skip", max_bad_share=1.0)}
        changes |= {"keep_empty": True} if task == "detection" else {"pairing": dict(require_annotations=False)}
        if survey.orphans and data.kind == "label maps":
            raise ValueError(f"{len(survey.orphans)} label maps have no image")
        dataset = DATASETS.build(data.dataset(part, task, folder, **changes))
        total = len(dataset)
    except (OSError, ValueError, KeyError) as error:
        survey.failure = " ".join(str(error).split())
        return survey
    for path in dataset.bad_sample_paths:
        survey.bad_labels.setdefault(path, "it cannot be used")
    for index in range(total):
        _read_item(dataset, index, survey)
        if progress is not None:
            progress(index + 1, total)
    return survey


def _read_item(dataset: SegmentationDataset | DetectionDataset, index: int, survey: PartSurvey) -> None:
    """Read one image with its labels."""
    item = dataset.item(index)
    facts = _image_facts(Path(item["img_path"]), survey)
    survey.images.append(facts)
    if facts.size is None:
        return
    try:
        sample = dataset.load(index)["sample"]
    except BadSample as error:
        unknown = _unknown_ids(dataset, item)
        if unknown:
            survey.unknown_ids[str(item["seg_map_path"])] = unknown
        else:
            survey.bad_labels[error.path] = error.reason
        return
    _count(sample, survey)


def _image_facts(path: Path, survey: PartSurvey) -> ImageFacts:
    try:
        image = read_image(path)
        digest = hashlib.sha256(read_regular(path, None)).hexdigest()
    except (BadSample, OSError) as error:
        survey.unreadable[str(path)] = getattr(error, "reason", "") or str(error)
        return ImageFacts(path)
    thumbnail = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return ImageFacts(path, (image.shape[0], image.shape[1]), digest, thumbnail)


def _unknown_ids(dataset: SegmentationDataset | DetectionDataset, item: Mapping[str, Any]) -> list[int]:
    """Return the ids of a label map that have no name; none if that is not what is wrong with it."""
    if not isinstance(dataset, SegmentationDataset) or dataset.label_reader is None:
        return []
    try:
        ids = np.unique(dataset.label_reader(item["seg_map_path"], None))
    except BadSample:
        return []
    return ids[dataset.label_table.classes_of(ids) == dataset.label_table.num_classes].tolist()


def _count(sample: Sample, survey: PartSurvey) -> None:
    """Add the pixels or boxes of an image to the counts."""
    count = len(survey.class_amounts)
    if sample.label_map is not None:
        amounts = np.bincount(sample.label_map.numpy().ravel(), minlength=ignore_index(count) + 1)
        survey.unlabeled_pixels += int(amounts[ignore_index(count)])
        amounts = amounts[:count]
    elif sample.instances is not None:
        amounts = np.bincount(sample.instances.classes.numpy(), minlength=count)
    else:
        return
    survey.class_amounts += amounts
    survey.class_images += amounts > 0


def _compare_files(data: OwnData, part: str, survey: PartSurvey) -> None:
    """Find images without a label file, and label files without an image; only of a part that is a whole folder."""
    chosen = data.parts[part]
    if chosen.keys is not None or not chosen.labels.is_dir():
        return
    extensions = {"YOLO": (".txt",), "Pascal VOC": (".xml",), "labelme": (".json",)}.get(data.kind)
    images, labels = files_by_key(chosen.images), files_by_key(chosen.labels, extensions=extensions)
    survey.unlabeled = [str(images[key]) for key in images if key not in labels]
    survey.orphans = [
        str(labels[key]) for key in labels if key not in images and not _is_list_of_names(labels[key], data)
    ]


def _is_list_of_names(path: Path, data: OwnData) -> bool:
    return data.kind == "YOLO" and path.name == "classes.txt"


def _check_objects(data: OwnData, part: str, survey: PartSurvey) -> None:
    """Find boxes that are not in their image, and images that a file of labels does not list."""
    chosen = data.parts[part]

    def note(error: BadSample) -> None:
        file = Path(error.path.rpartition(":")[0] or error.path)  # of FILE:LINE
        is_of_labels = Path(error.path).is_relative_to(chosen.labels) and not is_image(file)
        (survey.bad_labels if is_of_labels else survey.unreadable)[error.path] = error.reason

    found = read_annotations(chosen.labels, chosen.images, with_masks=False, yolo=lambda: _yolo(data), on_bad=note)
    spell_paths(found, chosen.images)
    if chosen.labels.is_file() and chosen.keys is None:
        listed = {entry.path for entry in found.images}
        files = [path.relative_to(chosen.images) for path in files_by_key(chosen.images).values()]
        survey.unlabeled = [str(chosen.images / path) for path in files if path.as_posix() not in listed]
        survey.orphans = [str(chosen.images / path) for path in listed if not (chosen.images / path).is_file()]
    _check_boxes(found, chosen.images, survey)


def _yolo(data: OwnData) -> YoloYaml:
    if data.names_file is not None:
        return read_yolo_yaml(data.names_file)
    return YoloYaml({index: several[0] for index, several in enumerate(data.names or ())}, None)


def _check_boxes(found: AnnotationList, folder: Path, survey: PartSurvey) -> None:
    complete_sizes(found, folder, lambda error: None)
    if not found.images:
        return
    sizes = np.array([entry.size for entry in found.images], np.int64)  # (I, 2)
    columns = found.columns
    clipped, unusable = check_boxes(columns.boxes, sizes[columns.image])
    wrong = dict({REASONS[reason]: flags for reason, flags in unusable.items()})
    usable = ~np.any(list(unusable.values()), axis=0)
    wrong["that extend beyond their image"] = usable & (np.abs(columns.boxes - clipped) > CLIP_TOLERANCE).any(1)
    for what, flags in wrong.items():
        if flags.any():
            survey.bad_boxes[what] = [found.images[row].path for row in columns.image[flags]]


def near_duplicates(images: Sequence[ImageFacts], others: Sequence[ImageFacts], bound: float) -> list[tuple[int, int]]:
    """Return pairs of indices of images that look alike: the closest of `others` for each of `images`, if any.

    Args:
        images, others: images of two parts.
        bound: mean difference of the thumbnails, in 0..255, up to which they look alike.
    """
    first, second = (
        np.array([_flat(one) for one in each], np.float32).reshape(-1, 3 * THUMBNAIL**2) for each in (images, others)
    )
    pairs = []
    for index, row in enumerate(first):
        if not len(second) or not math.isfinite(row[0]):
            continue
        distances = np.abs(second - row).mean(1)
        distances[~np.isfinite(distances)] = np.inf
        closest = int(distances.argmin())
        if distances[closest] <= bound:
            pairs.append((index, closest))
    return pairs


def _flat(image: ImageFacts) -> np.ndarray:
    if image.thumbnail is None:
        return np.full(3 * THUMBNAIL**2, np.nan, np.float32)
    return image.thumbnail.ravel().astype(np.float32)
