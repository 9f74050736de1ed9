"""Image folder + label-map folder + class names: every semantic segmentation dataset, and a user's own."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from openvocab.argument_checks import argument_group, check_choice, check_flags, check_paths, check_texts
from openvocab.datasets.annotations.categories import choose_categories
from openvocab.datasets.annotations.filtering import (
    complete_sizes,
    drop_root_category,
    keep_images,
    note_repeated,
    spell_paths,
)
from openvocab.datasets.annotations.formats import FOLDER_FORMATS, read_annotations
from openvocab.datasets.annotations.object_label_maps import ObjectLabelMaps
from openvocab.datasets.annotations.records import AnnotationList
from openvocab.datasets.annotations.yolo import YoloYaml
from openvocab.datasets.base import Loading, PipelineDataset, Transform, place_name
from openvocab.datasets.files.color_maps import ColorReader, check_colors
from openvocab.datasets.files.folder_walk import check_folder, files_by_key, is_image, walk_files
from openvocab.datasets.files.image_label_pairs import pair, select_listed
from openvocab.datasets.files.label_survey import Survey, count_ids, describe_survey
from openvocab.datasets.files.label_table import LabelTable
from openvocab.datasets.files.panoptic import PanopticReader
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.files.file_values import whole_numbers
from openvocab.images.image_io import MAX_PIXELS, read_label_map
from openvocab.registry import DATASETS
from openvocab.structures import IGNORE_INDEX, ignore_index
from openvocab.vocabulary.class_lists import (
    check_unseen_given,
    class_of_each_id,
    list_of_names,
    load_class_names,
    load_unseen,
)
from openvocab.vocabulary.vocabulary import SynonymMerge, Vocabulary

logger = logging.getLogger(__name__)

PAIR_ARGUMENTS = (
    "the two have the same path below their folder; if only the ends of the stems differ, set annotation_suffix or "
    "image_suffix in pairing=dict(...); pairing=dict(require_annotations=False) drops images without a label map"
)
ID_ARGUMENTS = (
    "label_ids, ignored_ids, reduce_zero_label and unlisted_ids, in labels=dict(...), define what an id means"
)


@dataclass(frozen=True)
class Pairing:
    """Which image and label map belong together: the group of arguments `pairing`.

    Raises:
        ValueError: a suffix that is not a string, or a flag that is neither True nor False.
    """

    image_suffix: str = ""
    """End of an image's stem that its label map does not have; images without it are dropped."""
    annotation_suffix: str = ""
    """End of a label map's stem that its image does not have; label maps without it are dropped."""
    require_annotations: bool = True
    """Raise for an image without a label map instead of dropping the image."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_texts({"pairing.image_suffix": self.image_suffix, "pairing.annotation_suffix": self.annotation_suffix})
        check_flags({"pairing.require_annotations": self.require_annotations})


@dataclass(frozen=True)
class LabelIds:
    """What the ids in the label maps mean: the group of arguments `labels`.

    Raises:
        ValueError: an unknown choice, ids that are not integers, or a flag that is neither True nor False.
    """

    reduce_zero_label: bool = False
    """Id 0 means unlabeled, and the first class has id 1 (ADE20K)."""
    ignored_ids: Collection[int] | None = None
    """Other ids that mean unlabeled; default: 255 (65535 above 254 classes)."""
    label_ids: Sequence[int] | Mapping[int, int] | None = None
    """The id of each class in the files, as a list in class order or a dict {id: class index}; default: its index."""
    unlisted_ids: Literal["raise", "ignore"] = "raise"
    """Whether an id that is neither a class nor ignored is an error or ignored too."""
    panoptic_json: str | Path | None = None
    """COCO panoptic file; the label maps are then panoptic PNGs, and their ids its category ids."""
    colors: Sequence[Sequence[int]] | None = None
    """The color of each class, [red, green, blue] in 0..255 in class order, if the label maps are color pictures."""
    ignored_colors: Sequence[Sequence[int]] = ()
    """Colors that mean unlabeled."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_flags({"labels.reduce_zero_label": self.reduce_zero_label})
        check_choice("labels.unlisted_ids", self.unlisted_ids, ("raise", "ignore"))
        check_paths({"labels.panoptic_json": self.panoptic_json})
        check_colors("labels.colors", self.colors or ())
        check_colors("labels.ignored_colors", self.ignored_colors)
        if self.colors is not None and (self.label_ids is not None or self.reduce_zero_label):
            raise ValueError("labels.colors: colors stand for classes; give neither label_ids nor reduce_zero_label")
        if self.ignored_ids is not None:
            object.__setattr__(self, "ignored_ids", whole_numbers(self.ignored_ids, "labels.ignored_ids"))


@dataclass(frozen=True)
class PixelClassOptions:
    """What is known about the classes: the group of arguments `class_options`.

    Raises:
        ValueError: an unknown choice, seen classes without a list of the unseen ones, or names that are not a list.
    """

    unseen: Sequence[str] | str | Path | None = None
    """Classes that have no training labels: a list of names, a JSON file with the key "unseen" (or "novel"), or the
    name of a split that comes with the package."""
    train_classes: Literal["all", "seen"] = "all"
    """`seen` drops the unseen classes from the vocabulary and ignores their pixels."""
    background: str | None = None
    """Name of the class that means "everything else"; its first name, if it has several."""
    synonym_merge: SynonymMerge = "mean"
    """See `Vocabulary`."""
    repeated_names: Sequence[str] = ()
    """See `Vocabulary`."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("class_options.train_classes", self.train_classes, ("all", "seen"))
        check_unseen_given(self.train_classes, self.unseen)
        check_texts({} if self.background is None else {"class_options.background": self.background})
        check_choice("class_options.synonym_merge", self.synonym_merge, get_args(SynonymMerge))
        object.__setattr__(self, "repeated_names", list_of_names("class_options.repeated_names", self.repeated_names))


@DATASETS.register_module()
class SegmentationDataset(PipelineDataset):
    """Images with one class per pixel.

    `SegmentationDataset("photos", "masks", ["wall", "floor"])` is enough: masks are single-channel PNGs that hold the
    index of the class in the list, 255 where unlabeled, and are found by the stem of the image.

    Args:
        images, annotations: folders, searched recursively; `annotations=None` gives images without labels.
            `annotations` may also be outlines of objects, in any format of `DetectionDataset` but Pascal VOC: label
            maps are then drawn from them, and pixels of no object are unlabeled, or the `background` of
            `class_options`.
        classes: the names in label order: a list (an entry may be a list of synonyms), a names file, or the name of a
            list that comes with the package. Default, for outlines with names: their names.
        pipeline: transforms; default: the image and its labels as they are.
        root: prefix of every relative path given here.
        keys: file that lists the samples of this part, one per line; see `find_listed`.
        pairing: a dict with some of the fields of `Pairing`: suffixes of the two files, and images without labels.
        labels: a dict with some of the fields of `LabelIds`: what the ids in the files mean.
        class_options: a dict with some of the fields of `PixelClassOptions`: unseen classes, the background, synonyms.
        loading, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file, named with its argument.
        TypeError: an unknown argument in a group.
        ValueError: no samples, names that the vocabulary rejects, label ids that do not fit the classes, masks of 0 and
            255 for one or two classes if no argument defines what the 255 means.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path | None,
        classes: Sequence[str | Sequence[str]] | str | Path | None = None,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        keys: str | Path | None = None,
        pairing: Mapping[str, Any] | Pairing | None = None,
        labels: Mapping[str, Any] | LabelIds | None = None,
        class_options: Mapping[str, Any] | PixelClassOptions | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(dict(annotations=annotations, keys=keys), root=root, images=images)
        super().__init__(
            [LoadImage(), LoadLabels(), PackSample()] if pipeline is None else pipeline,
            loading=loading,
            test_mode=test_mode,
            name=name or place_name(root, keys or annotations or images),
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys, self.classes = images, annotations, keys, classes
        self.pairing = argument_group("pairing", pairing, Pairing)
        self.labels = argument_group("labels", labels, LabelIds)
        self.class_options = argument_group("class_options", class_options, PixelClassOptions)
        if self.annotations is None:
            self._given_names  # noqa: B018  there is nothing else to take names from

    @cached_property
    def all_classes(self) -> Vocabulary:
        """Vocabulary of the whole class list."""
        options = self.class_options
        return Vocabulary.from_names(
            self._given_names if self.classes is not None else self._names_of_objects,
            unseen=None if options.unseen is None else load_unseen(options.unseen, self.root, "class_options.unseen"),
            background=options.background,
            synonym_merge=options.synonym_merge,
            repeated_names=options.repeated_names,
            group="class_options",
        )

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Classes that this dataset's labels index."""
        vocabulary = self.all_classes.subset(self._chosen_classes)
        vocabulary.digest  # noqa: B018  computed once here, it travels with every sample
        return vocabulary

    @cached_property
    def label_table(self) -> LabelTable:
        """Maps ids in the files to indices of `vocabulary`."""
        new_index = {index: position for position, index in enumerate(self._chosen_classes)}
        class_of_id = {raw_id: new_index.get(index) for raw_id, index in self._class_of_id().items()}
        ignore_unlisted = self.labels.unlisted_ids == "ignore"
        return LabelTable(class_of_id, self._ignored_ids(), len(new_index), ignore_unlisted, ID_ARGUMENTS)

    @property
    def label_reader(self) -> Callable[[str | Path, int | None], np.ndarray]:
        """(path, largest number of pixels) -> raw label ids, (H, W) uint8 or uint16."""
        if self._objects is not None:
            return self._object_label_maps
        if self.labels.colors is not None:
            return ColorReader(self.labels.colors, self.labels.ignored_colors)
        return read_label_map if self._panoptic_reader is None else self._panoptic_reader

    @cached_property
    def _panoptic_reader(self) -> PanopticReader | None:
        path = self.labels.panoptic_json
        return None if path is None else PanopticReader(self.root / path)

    def load_index(self) -> list[dict[str, Any]]:
        """Match label maps to images by key; log their number, and the classes that a survey does not find."""
        pairing = self.pairing
        keys = None if self.keys is None else self.root / self.keys
        folder = check_folder(self.root / self.images, "images")
        if self._objects is not None:
            return self._index_of_objects(self._objects, folder)
        images = files_by_key(folder, pairing.image_suffix)
        if not images:
            suffix = f"pairing=dict(image_suffix={pairing.image_suffix!r})"
            ending = f" whose stem ends in {suffix}" if pairing.image_suffix else ""
            raise ValueError(f"images: no samples found: there is no image{ending} in {folder}")
        images = select_listed(images, keys, folder)
        if self.annotations is None:
            logger.info(f"{self.name}: {len(images)} images, no label maps, {len(self.vocabulary)} classes")
            return [{"sample_id": key, "img_path": str(path)} for key, path in images.items()]
        labels = files_by_key(check_folder(self.root / self.annotations, "annotations"), pairing.annotation_suffix)
        if keys is not None:
            labels = {key: path for key, path in labels.items() if key in images}
        pairs = pair(images, labels, PAIR_ARGUMENTS, pairing.require_annotations)
        if self._panoptic_reader is not None:
            self._panoptic_reader.check_distinct(label for _, _, label in pairs)
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

    @cached_property
    def _objects(self) -> AnnotationList | None:
        """The labeled objects whose outlines are the labels; None if the labels are label maps."""
        source = None if self.annotations is None else self.root / self.annotations
        if source is None or not (source.is_file() or _holds_objects(source, self.root / self.images)):
            return None
        labels = self.labels
        if labels.reduce_zero_label or labels.ignored_ids is not None or labels.panoptic_json or labels.colors:
            raise ValueError(
                f"labels: {source} holds outlines of objects, of which only label_ids (of the categories) and "
                "unlisted_ids can be set"
            )
        folder = check_folder(self.root / self.images, "images")
        found = read_annotations(source, folder, with_masks=True, yolo=self._yolo_names, on_bad=self.note_unusable)
        names = None if self.classes is None else self._given_names
        drop_root_category(found, names, str(source))
        spell_paths(found, folder)
        found.notes += note_repeated(found.images)
        if self.keys is not None:
            keep_images(found, self.root / self.keys, str(self.annotations))
        complete_sizes(found, folder, self.note_unusable)
        return found

    @cached_property
    def _object_label_maps(self) -> ObjectLabelMaps:
        """Draws label maps from the outlines of objects."""
        found = self._objects
        assert found is not None
        options = self.class_options
        choice = choose_categories(
            [list(several) for several in self.all_classes.synonyms],
            found.category_names,
            found.category_ids,
            ids_of_classes=self.labels.label_ids,
            unseen=None,
            train_classes="all",
            unlisted_ids=self.labels.unlisted_ids,
            root=self.root,
        )
        background = None if options.background is None else self.all_classes.background
        return ObjectLabelMaps(found, choice.class_of_id, background, ignore_index(len(self.all_classes)))

    def _index_of_objects(self, found: AnnotationList, folder: Path) -> list[dict[str, Any]]:
        """List the images of outlines; the label map of each is drawn when it is loaded."""
        paths = [entry.path for entry in found.images]
        if paths and not (folder / paths[0]).is_file():
            raise FileNotFoundError(
                f"images: no file {folder / paths[0]}, the first of {len(paths)} that {self.annotations} lists; point "
                "images to the folder that its file names are relative to"
            )
        for note in found.notes:
            logger.warning(f"{self.name}: {note}")
        self._log_summary([Path(path) for path in paths])
        return [
            {"sample_id": entry.image_id, "img_path": str(folder / entry.path), "seg_map_path": entry.path}
            for entry in found.images
        ]

    @cached_property
    def _given_names(self) -> Sequence[str | Sequence[str]]:
        """The names that `classes` gives.

        Raises:
            ValueError: it gives none.
        """
        if self.classes is None:
            raise ValueError("classes: label maps hold numbers only; give the names in their order")
        return load_class_names(self.classes, self.root)

    @property
    def _names_of_objects(self) -> Sequence[str | Sequence[str]]:
        """The categories of the outlines, in the order of their ids."""
        found = self._objects
        if found is None:
            return self._given_names
        return [category for _, category in sorted(zip(found.category_ids, found.category_names))]

    def _yolo_names(self) -> YoloYaml:
        names = enumerate(self._given_names)
        return YoloYaml({number: entry if isinstance(entry, str) else entry[0] for number, entry in names}, None)

    def _log_summary(self, label_maps: list[Path]) -> None:
        """Log the number of images and classes; warn if some classes seem to have no pixels."""
        reader = self.label_reader
        survey = count_ids(label_maps, lambda path: reader(path, MAX_PIXELS))
        if self._objects is None and self.labels.colors is None:
            self._check_binary(survey)
        suspicious, found = describe_survey(survey, self.label_table, self.vocabulary.class_names, len(label_maps))
        advice = f"; {ID_ARGUMENTS}" if suspicious else ""
        line = f"{self.name}: {len(label_maps)} images, {len(self.vocabulary)} classes{found}{advice}"
        logger.log(logging.WARNING if suspicious else logging.INFO, line)

    def _check_binary(self, survey: Survey) -> None:
        """Reject masks of 0 and 255 for one or two classes, unless an argument defines what the 255 means.

        Raises:
            ValueError: the masks are such; the message states what to set if 255 is a class, and if it is unlabeled.
        """
        names, present_ids = self.all_classes.class_names, np.flatnonzero(survey.pixels).tolist()
        labels = self.labels
        is_defined = labels.ignored_ids is not None or labels.label_ids is not None or labels.reduce_zero_label
        if len(names) <= 2 and present_ids == [0, IGNORE_INDEX] and not is_defined:
            as_class = "label_ids=[0, 255], ignored_ids=[]" if len(names) == 2 else "label_ids=[255], ignored_ids=[0]"
            raise ValueError(
                f"{self.name}: the label maps hold the ids 0 and 255 only; if 255 is {names[-1]!r}, give "
                f"labels=dict({as_class}); if it is unlabeled, give labels=dict(ignored_ids=[255])"
            )

    @cached_property
    def _chosen_classes(self) -> list[int]:
        """Indices, in the whole class list, of the classes of the vocabulary."""
        if self.class_options.train_classes == "all":
            return list(range(len(self.all_classes)))
        return [index for index, flag in enumerate(self.all_classes.seen or ()) if flag]

    def _class_of_id(self) -> dict[int, int]:
        """Return the class (of the whole list) of each id in the files."""
        count = len(self.all_classes)
        if self.labels.label_ids is None or self._objects is not None:
            first = 1 if self.labels.reduce_zero_label else 0
            return {index + first: index for index in range(count)}
        return class_of_each_id("labels.label_ids", self.labels.label_ids, count)

    def _ignored_ids(self) -> list[int]:
        given = self.labels.ignored_ids
        ignored = [ignore_index(len(self.all_classes))] if given is None else list(given)
        return [*ignored, 0] if self.labels.reduce_zero_label else ignored


def _holds_objects(folder: Path, images: Path) -> bool:
    """Return whether a folder holds label files of objects, and no picture that could be a label map."""
    extensions = {path.suffix.lower() for path in walk_files(folder)} if folder.is_dir() else set()
    has_pictures = any(is_image(Path(f"x{one}")) for one in extensions) and folder.resolve() != images.resolve()
    return bool(extensions & {*FOLDER_FORMATS}) and not has_pictures
