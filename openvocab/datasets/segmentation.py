"""Image folder + label-map folder + class names: every semantic segmentation dataset, and a user's own."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openvocab.argument_checks import check_paths
from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform, place_name
from openvocab.datasets.files.folder_walk import check_folder, files_by_key
from openvocab.datasets.files.image_label_pairs import pair, select_listed
from openvocab.datasets.files.label_survey import Survey, count_ids, describe_survey
from openvocab.datasets.files.label_table import LabelTable
from openvocab.datasets.files.panoptic import PanopticReader
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.files.file_values import whole_numbers
from openvocab.images.image_io import read_label_map
from openvocab.registry import DATASETS
from openvocab.structures import IGNORE_INDEX, ignore_index
from openvocab.vocabulary.class_lists import (
    check_class_choices,
    class_of_each_id,
    list_of_names,
    load_class_names,
    load_unseen,
)
from openvocab.vocabulary.vocabulary import SynonymMerge, Vocabulary

logger = logging.getLogger(__name__)

PAIR_ARGUMENTS = (
    "the two have the same path below their folder; where only the ends of the stems differ, set annotation_suffix or "
    "image_suffix; require_annotations=False leaves images without a label map out"
)
ID_ARGUMENTS = "label_ids, ignored_ids, reduce_zero_label and unlisted_ids say what an id means"


@DATASETS.register_module()
class SegmentationDataset(PipelineDataset):
    """Images with one class a pixel.

    `SegmentationDataset("photos", "masks", ["wall", "floor"])` is enough: masks are single-channel PNGs that hold the
    position of the class in the list, 255 where unlabeled, and are found by the stem of the image.

    Args:
        images, annotations: folders, searched recursively; `annotations=None` gives images without labels.
        classes: the names in label order: a list (an entry may be a list of synonyms), a names file, or the name of a
            list that comes with the package.
        pipeline: transforms; by default the image and its labels as they are.
        root: put before every relative path that is given here.
        image_suffix, annotation_suffix: end of the stem that the two files of a pair do not share; files without it are
            left out.
        keys: file that lists the samples of this part, one a line; see `find_listed`.
        require_annotations: refuse images without a label map, instead of leaving them out.
        reduce_zero_label: id 0 means unlabeled and the first class has id 1 (ADE20K).
        ignored_ids: other ids that mean unlabeled; by default 255 (65535 above 254 classes).
        label_ids: the id of each class in the files, as a list in class order or a dict {id: class index};
            by default its position.
        unlisted_ids: whether an id that is neither a class nor ignored is an error or ignored too.
        unseen: classes that have no training labels: a list of names, a JSON file with the key "unseen" (or "novel"),
            or the name of a split that comes with the package.
        train_classes: `seen` leaves the unseen classes out of the vocabulary and ignores their pixels.
        background: name of the class that means "everything else"; its first name, where it has several.
        synonym_merge, repeated_names: see `Vocabulary`.
        panoptic_json: COCO panoptic file; the label maps are then panoptic PNGs, and their ids its category ids.
        bad_samples, max_bad_share, cache_images, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file, named with its argument.
        ValueError: no samples, names that the vocabulary refuses, label ids that do not fit the classes, masks of 0 and
            255 for one or two classes where no argument says what the 255 means.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path | None,
        classes: Sequence[str | Sequence[str]] | str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        image_suffix: str = "",
        annotation_suffix: str = "",
        keys: str | Path | None = None,
        require_annotations: bool = True,
        reduce_zero_label: bool = False,
        ignored_ids: Collection[int] | None = None,
        label_ids: Sequence[int] | Mapping[int, int] | None = None,
        unlisted_ids: Literal["raise", "ignore"] = "raise",
        unseen: Sequence[str] | str | Path | None = None,
        train_classes: Literal["all", "seen"] = "all",
        background: str | None = None,
        synonym_merge: SynonymMerge = "mean",
        repeated_names: Sequence[str] = (),
        panoptic_json: str | Path | None = None,
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        given = dict(annotations=annotations, keys=keys, panoptic_json=panoptic_json)
        check_paths(given, root=root, images=images)
        pipeline = [LoadImage(), LoadLabels(), PackSample()] if pipeline is None else pipeline
        super().__init__(
            pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=test_mode,
            name=name or place_name(root, keys or annotations or images),
        )
        check_class_choices(train_classes, unseen, unlisted_ids)
        self.root = Path(root)
        self.images, self.annotations, self.keys = images, annotations, keys
        self.image_suffix, self.annotation_suffix = image_suffix, annotation_suffix
        self.require_annotations = require_annotations
        self.classes, self.unseen, self.train_classes = classes, unseen, train_classes
        self.background, self.synonym_merge = background, synonym_merge
        self.repeated_names = list_of_names("repeated_names", repeated_names)
        self.reduce_zero_label = reduce_zero_label
        self.ignored_ids = None if ignored_ids is None else whole_numbers(ignored_ids, "ignored_ids")
        self.label_ids, self.unlisted_ids = label_ids, unlisted_ids
        self.panoptic_json = panoptic_json

    @cached_property
    def all_classes(self) -> Vocabulary:
        """Vocabulary of the whole class list."""
        unseen = None if self.unseen is None else load_unseen(self.unseen, self.root)
        return Vocabulary.from_names(
            load_class_names(self.classes, self.root),
            unseen=unseen,
            background=self.background,
            synonym_merge=self.synonym_merge,
            repeated_names=self.repeated_names,
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Classes that this dataset's labels index."""
        vocabulary = self.all_classes.subset(self._kept_classes)
        vocabulary.digest  # noqa: B018  computed once here, it travels with every sample
        return vocabulary

    @cached_property
    def label_table(self) -> LabelTable:
        """From ids in the files to indices of `vocabulary`."""
        position = {index: place for place, index in enumerate(self._kept_classes)}
        class_of_id = {raw_id: position.get(index) for raw_id, index in self._class_of_id().items()}
        ignore_unlisted = self.unlisted_ids == "ignore"
        return LabelTable(class_of_id, self._ignored_ids(), len(position), ignore_unlisted, ID_ARGUMENTS)

    @cached_property
    def label_reader(self) -> Callable[[str, int | None], np.ndarray]:
        """Reads the ids of one label file of at most so many pixels, (H, W) uint8 or uint16."""
        return read_label_map if self.panoptic_json is None else PanopticReader(self.root / self.panoptic_json)

    def load_index(self) -> list[dict[str, Any]]:
        """Match label maps to images by key, and log what there is and which classes a sample of the maps lacks."""
        keys = None if self.keys is None else self.root / self.keys
        folder = check_folder(self.root / self.images, "images")
        images = files_by_key(folder, self.image_suffix)
        if not images:
            ending = f" whose stem ends in image_suffix={self.image_suffix!r}" if self.image_suffix else ""
            raise ValueError(f"images: no samples found, there is no image{ending} in {folder}")
        images = select_listed(images, keys, folder)
        if self.annotations is None:
            logger.info(f"{self.name}: {len(images)} images without label maps, {len(self.vocabulary)} classes")
            return [{"sample_id": key, "img_path": str(path)} for key, path in images.items()]
        labels = files_by_key(check_folder(self.root / self.annotations, "annotations"), self.annotation_suffix)
        if keys is not None:
            labels = {key: path for key, path in labels.items() if key in images}
        pairs = pair(images, labels, PAIR_ARGUMENTS, self.require_annotations)
        if self.panoptic_json is not None:
            self.label_reader.check_distinct(label for _, _, label in pairs)
        self._log_summary([label for _, _, label in pairs])
        return [{"sample_id": key, "img_path": str(image), "seg_map_path": str(label)} for key, image, label in pairs]

    def common_results(self) -> dict[str, Any]:
        """Give every item its vocabulary and the means to read its labels."""
        return {"vocabulary": self.vocabulary, "label_reader": self.label_reader, "label_table": self.label_table}

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name, class names and the digest of the vocabulary."""
        names = list(self.vocabulary.class_names)
        return {"dataset": self.name, "classes": names, "vocabulary_digest": self.vocabulary.digest}

    def _log_summary(self, label_maps: list[Path]) -> None:
        """Log how many images and classes there are; as a warning, which classes seem to have no pixel."""
        survey = count_ids(label_maps, self.label_reader)
        self._check_binary(survey)
        suspicious, found = describe_survey(survey, self.label_table, self.vocabulary.class_names, len(label_maps))
        advice = f"; {ID_ARGUMENTS}" if suspicious else ""
        line = f"{self.name}: {len(label_maps)} images, {len(self.vocabulary)} classes{found}{advice}"
        logger.log(logging.WARNING if suspicious else logging.INFO, line)

    def _check_binary(self, survey: Survey) -> None:
        """Refuse masks of 0 and 255 for one or two classes, unless an argument says what the 255 means.

        Raises:
            ValueError: what to give in either case.
        """
        names, met = self.all_classes.class_names, np.flatnonzero(survey.pixels).tolist()
        is_said = self.ignored_ids is not None or self.label_ids is not None or self.reduce_zero_label
        if len(names) <= 2 and met == [0, IGNORE_INDEX] and not is_said:
            as_class = "label_ids=[0, 255], ignored_ids=[]" if len(names) == 2 else "label_ids=[255], ignored_ids=[0]"
            raise ValueError(
                f"{self.name}: the label maps hold the ids 0 and 255 only; where 255 is {names[-1]!r}, give "
                f"{as_class}; where it is unlabeled, give ignored_ids=[255]"
            )

    @cached_property
    def _kept_classes(self) -> list[int]:
        seen = self.all_classes.seen
        if self.train_classes == "all":
            return list(range(len(self.all_classes)))
        return [index for index, flag in enumerate(seen) if flag]

    def _class_of_id(self) -> dict[int, int]:
        """Return the class (of the whole list) of each id in the files."""
        count = len(self.all_classes)
        if self.label_ids is None:
            first = 1 if self.reduce_zero_label else 0
            return {index + first: index for index in range(count)}
        return class_of_each_id("label_ids", self.label_ids, count)

    def _ignored_ids(self) -> list[int]:
        ignored = (ignore_index(len(self.all_classes)),) if self.ignored_ids is None else self.ignored_ids
        return [*ignored, 0] if self.reduce_zero_label else list(ignored)
