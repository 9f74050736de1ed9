"""Images with labeled objects: COCO, LVIS, and a user's own, in the formats of the common labeling tools."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openvocab.argument_checks import argument_group, check_choice, check_paths
from openvocab.datasets.annotations.categories import CategoryChoice, choose_categories
from openvocab.datasets.annotations.filtering import (
    ObjectSelection,
    complete_sizes,
    drop_root_category,
    keep_images,
    note_repeated,
    select_objects,
    spell_paths,
)
from openvocab.datasets.annotations.formats import read_annotations
from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.datasets.annotations.records import AnnotationList
from openvocab.datasets.annotations.yolo import YoloYaml, read_yolo_yaml
from openvocab.datasets.base import Loading, PipelineDataset, Transform, place_name
from openvocab.datasets.files.folder_walk import check_folder
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample
from openvocab.registry import DATASETS
from openvocab.structures import FederatedLabels
from openvocab.vocabulary.class_lists import check_unseen_given, load_class_names, load_frequencies
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CategoryIds:
    """What the categories of the annotations mean: the group of arguments `labels`.

    Raises:
        ValueError: an unknown choice, or `frequencies` that is not a path.
    """

    category_ids: Sequence[int] | Mapping[int, int] | None = None
    """The id of each class in the file, as a list in class order or a dict {id: class index}, if names do not match."""
    unlisted_ids: Literal["raise", "ignore"] = "raise"
    """Whether categories that are not classes are an error or dropped."""
    frequencies: str | Path | None = None
    """JSON file with the lists "rare", "common" and "frequent", or `lvis_frequencies` of the package; default: what the
    categories of the file state. Metrics average over the classes of each list."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("labels.unlisted_ids", self.unlisted_ids, ("raise", "ignore"))
        check_paths({"labels.frequencies": self.frequencies})


@dataclass(frozen=True)
class ObjectClassOptions:
    """What is known about the classes: the group of arguments `class_options`.

    Raises:
        ValueError: an unknown choice, or seen classes without a list of the unseen ones.
    """

    unseen: Sequence[str] | str | Path | None = None
    """Classes that have no training labels: a list of names, a JSON file with the key "unseen" (or "novel"), or the
    name of a split that comes with the package. A split that also has the key "seen" (or "base") drops the classes of
    neither list."""
    train_classes: Literal["all", "seen", "seen_labels"] = "all"
    """`seen` drops the unseen classes from the vocabulary, and their objects; `seen_labels` drops the objects only, for
    losses in which unseen names take part (official ViLD)."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("class_options.train_classes", self.train_classes, ("all", "seen", "seen_labels"))
        check_unseen_given(self.train_classes, self.unseen)


@DATASETS.register_module()
class DetectionDataset(PipelineDataset):
    """Images with boxes and, with `with_masks`, masks.

    `DetectionDataset("photos", "labels.json", ["helmet", "vest"])` is enough. The second argument is a file of
    COCO, LVIS, Label Studio or CVAT, or a folder of files of YOLO, Pascal VOC or labelme.

    Unusable objects are dropped: boxes that are not finite, of zero or negative size, or wholly outside the image; with
    `with_masks` also objects without a mask, with an empty one, or with one outside their box. Boxes that extend past
    the image are clipped. One line of the log states their numbers, as a warning if most boxes extend past the image or
    all objects are crowds.

    Args:
        images: folder that file names are relative to; for YOLO, VOC, labelme and Label Studio it is searched
            recursively.
        annotations: file `.json` (COCO, LVIS, Label Studio) or `.xml` (CVAT for images 1.1), or folder of `.txt`
            (YOLO), `.xml` (VOC) or `.json` (labelme) files.
        classes: the names in vocabulary order: a list (an entry may be a list of synonyms), a names file, a YOLO
            `data.yaml` (whose `kpt_shape` states that keypoints follow the boxes; they are ignored), or the name of a
            list that comes with the package. Default: the categories of the file, in the order of their ids, except a
            parent of all others (exports of Roboflow have one); VOC files hold only the names of their objects, so
            parts of a dataset in separate folders need the list.
            Categories are matched by name, including synonyms; those of YOLO by their number.
        pipeline: transforms; default: the image and its objects as they are.
        root: prefix of every relative path given here.
        with_masks: read masks too; they are decoded for each item, so boxes alone are faster. YOLO lines that are
            longer than a box are polygons then, even if they could be boxes with more columns.
        keys: file that lists the images of this part, one per line: path or name without extension, or the id in the
            file; see `find_listed`.
        labels: a dict with some of the fields of `CategoryIds`: ids and frequencies of the categories.
        class_options: a dict with some of the fields of `ObjectClassOptions`: unseen classes, and training without
            them.
        keep_empty: keep images without objects, or with crowds only; default: at evaluation, not in training.
        loading, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file, named with its argument.
        TypeError: an unknown argument in a group.
        ValueError: a file that is not of its format, an id given twice, an annotation of an unknown image or category,
            a split that names an unknown class, masks that do not fit their image, YOLO lines that may be polygons or
            boxes with more columns, files of several formats in one folder, boxes in fractions of the image if the
            format has pixels, or the other way around, or no samples.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        classes: Sequence[str | Sequence[str]] | str | Path | None = None,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        with_masks: bool = False,
        keys: str | Path | None = None,
        labels: Mapping[str, Any] | CategoryIds | None = None,
        class_options: Mapping[str, Any] | ObjectClassOptions | None = None,
        keep_empty: bool | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(dict(keys=keys), root=root, images=images, annotations=annotations)
        super().__init__(
            [LoadImage(), LoadInstances(), PackSample()] if pipeline is None else pipeline,
            loading=loading,
            test_mode=test_mode,
            name=name or place_name(root, keys or annotations),
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys, self.classes = images, annotations, keys, classes
        self.labels = argument_group("labels", labels, CategoryIds)
        self.class_options = argument_group("class_options", class_options, ObjectClassOptions)
        self.with_masks = with_masks
        self.keep_empty = test_mode if keep_empty is None else keep_empty

    @property
    def vocabulary(self) -> Vocabulary:
        """Classes that this dataset's labels index."""
        return self._choice.vocabulary

    @property
    def table(self) -> InstanceTable:
        """All objects."""
        return self._selection.table

    @property
    def aspect_ratios(self) -> np.ndarray:
        """(I,) float64 width / height of each image."""
        sizes = np.array([entry.size for entry in self._selection.images], np.float64)  # (I, 2)
        return sizes[:, 1] / sizes[:, 0]

    @property
    def item_classes(self) -> list[np.ndarray]:
        """For each image, the distinct classes that occur in it (not as a crowd), (n,) int64; for repeat factors."""
        return [self.table.classes_of(image) for image in range(len(self._selection.images))]

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name, class names, the id of each class in the file (None: no such category), the vocabulary's digest.

        `frequencies`, one letter r, c or f per class, is among them if all are known.
        """
        letters: list[str | None]
        id_of_class = {index: raw for raw, index in self._choice.class_of_id.items()}
        ids = [id_of_class.get(index) for index in range(len(self.vocabulary))]
        names = list(self.vocabulary.class_names)
        if self.labels.frequencies is not None:
            letters = [*load_frequencies(self.labels.frequencies, names, self.root)]
        else:
            stated = self._selection.frequencies
            letters = [None if raw is None else stated.get(raw) for raw in ids]
        known = {"frequencies": letters} if all(letters) else {}
        digest = self.vocabulary.digest
        return {"dataset": self.name, "classes": names, "category_ids": ids, "vocabulary_digest": digest, **known}

    def load_index(self) -> list[dict[str, Any]]:
        """List the images; their objects stay in `table`."""
        folder, class_of_id = self.root / self.images, self._choice.class_of_id
        items: list[dict[str, Any]] = []
        for position, entry in enumerate(self._selection.images):
            item = {
                "sample_id": entry.image_id,
                "img_path": str(folder / entry.path),
                "image_position": position,
                "annotated_size": entry.size,
            }
            if entry.negative is not None:
                lists = (entry.negative, entry.not_exhaustive)
                item["federated"] = FederatedLabels(*(_classes(ids, class_of_id) for ids in lists))
            items.append(item)
        if items and not Path(items[0]["img_path"]).is_file():
            raise FileNotFoundError(
                f"images: no file {items[0]['img_path']}, the first of {len(items)} that {self.annotations} lists; "
                "point images to the folder that its file names are relative to"
            )
        return items

    def common_results(self) -> dict[str, Any]:
        """Give every item its vocabulary and the table of objects."""
        return {"vocabulary": self.vocabulary, "instance_table": self.table}

    @property
    def _choice(self) -> CategoryChoice:
        """Which categories are which classes."""
        return self._read[0]

    @property
    def _selection(self) -> ObjectSelection:
        """The images and objects that can be used."""
        return self._read[1]

    @cached_property
    def _read(self) -> tuple[CategoryChoice, ObjectSelection]:
        """Read the annotations once, and keep what can be used of them."""
        found = self._annotation_list()
        given_names = self._given_names
        drop_root_category(found, given_names, str(self.root / self.annotations))
        choice = choose_categories(
            self._names_of(found) if given_names is None else given_names,
            found.category_names,
            found.category_ids,
            ids_of_classes=self.labels.category_ids,
            unseen=self.class_options.unseen,
            train_classes=self.class_options.train_classes,
            unlisted_ids=self.labels.unlisted_ids,
            root=self.root,
        )
        spell_paths(found, self.root / self.images)
        found.notes += note_repeated(found.images)
        if self.keys is not None:
            keep_images(found, self.root / self.keys, str(self.annotations))
        complete_sizes(found, self.root / self.images, self.note_unusable)
        selection = select_objects(found, choice, self.keep_empty, str(self.annotations))
        level = logging.WARNING if selection.is_suspicious or found.notes else logging.INFO
        logger.log(level, f"{self.name}: {selection.summary}")
        return choice, selection

    def _names_of(self, found: AnnotationList) -> Sequence[str | Sequence[str]]:
        """Return the categories of the file as class names."""
        names = [category for _, category in sorted(zip(found.category_ids, found.category_names))]
        try:
            Vocabulary.from_names(names)
        except ValueError as error:
            raise ValueError(f"{self.root / self.annotations}: its categories as classes: {error}") from error
        return names

    def _annotation_list(self) -> AnnotationList:
        """Read the annotations, in any of the formats."""
        return read_annotations(
            self.root / self.annotations,
            check_folder(self.root / self.images, "images"),
            with_masks=self.with_masks,
            yolo=self._yolo_names,
            on_bad=self.note_unusable,
        )

    def _yolo_names(self) -> YoloYaml:
        if self.classes is None:
            raise ValueError("classes: YOLO labels hold numbers only; give the names in their order, or the data.yaml")
        return self._yaml or YoloYaml(self._numbered_names, None)

    @cached_property
    def _given_names(self) -> Sequence[str | Sequence[str]] | None:
        """The class names that `classes` gives; None if it gives none."""
        if self.classes is None:
            return None
        return list(self._yaml.names.values()) if self._yaml else load_class_names(self.classes, self.root)

    @cached_property
    def _yaml(self) -> YoloYaml | None:
        """The content of `classes`, if it is a data.yaml."""
        if isinstance(self.classes, (str, Path)) and Path(self.classes).suffix.lower() in (".yaml", ".yml"):
            return read_yolo_yaml(self.root / self.classes)
        return None

    @property
    def _numbered_names(self) -> dict[int, str]:
        """The first name of each class, by its index in the list."""
        entries = enumerate(self._given_names or ())
        return {number: entry if isinstance(entry, str) else entry[0] for number, entry in entries}


def _classes(ids: Sequence[int], class_of_id: Mapping[int, int]) -> tuple[int, ...]:
    """Return the distinct classes of category ids, in order; ids that are not classes are skipped."""
    return tuple(sorted({class_of_id[raw] for raw in ids if raw in class_of_id}))
