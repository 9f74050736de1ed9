"""PASCAL-5i and COCO-20i in the zero-shot form: pairs of an image and a class of a fold."""

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openvocab.argument_checks import argument_group, check_choice, check_paths
from openvocab.datasets.base import Loading, Transform, place_name
from openvocab.datasets.episode_dataset import CLASS, OTHERS, EpisodeDataset, one_name_per_class
from openvocab.datasets.files.folder_walk import check_folder, files_by_key, normal_key
from openvocab.datasets.files.image_label_pairs import pair as pair_files
from openvocab.datasets.files.image_label_pairs import read_keys, select_listed
from openvocab.datasets.files.label_table import LabelTable
from openvocab.files.file_values import count_from_1, whole_number, whole_numbers
from openvocab.images.image_io import BadSample, read_label_map
from openvocab.registry import DATASETS
from openvocab.structures import IGNORE_INDEX
from openvocab.vocabulary.class_lists import class_of_each_id, load_split
from openvocab.vocabulary.vocabulary import some_names

logger = logging.getLogger(__name__)

PAIR_RULE = "the two have the same path below their folder"

Pair = tuple[str, int]
"""Key of an image, and the index of a class that occurs in it."""


@dataclass(frozen=True)
class Episodes:
    """Which pairs of an image and a class are tested: the group of arguments `episodes`.

    Raises:
        ValueError: a count below 1, an unknown way to draw, or `pairs` that are not paths.
    """

    count: int = 1000
    """Number of test episodes."""
    draw: Literal["cycle", "random"] = "cycle"
    """`cycle` repeats the list of pairs (PASCAL-5i in HSNet's code); `random` draws a class and then an image of it
    (COCO-20i)."""
    seed: int = 0
    """Seed of the random draws."""
    pairs: str | Path | Sequence[str | Path] | None = None
    """File, or files, that list the pairs, `stem__class` with classes counted from 1, as published with HSNet; of the
    training part, too. By default they are found by reading every label map once, which takes minutes for COCO. An
    image that does not show the class that it is listed for is a bad sample."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("episodes.draw", self.draw, ("cycle", "random"))
        object.__setattr__(self, "count", count_from_1(self.count, "episodes.count"))
        object.__setattr__(self, "seed", whole_number(self.seed, "episodes.seed"))
        _list_of_files(self.pairs)


@dataclass(frozen=True)
class FewShotLabels:
    """What the ids in the label maps mean: the group of arguments `labels`.

    Raises:
        ValueError: an id that is not an integer.
    """

    first_id: int | Sequence[int] = 1
    """Label id of the first class; a list gives the id of every class."""
    boundary: int = IGNORE_INDEX
    """Id of unlabeled pixels; "others" in training, ignored in testing (as in the official code)."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        object.__setattr__(self, "boundary", whole_number(self.boundary, "labels.boundary"))


@DATASETS.register_module()
class FewShotDataset(EpisodeDataset):
    """Episodes of a few-shot fold, see `EpisodeDataset`: no support image, the class is named instead.

    Training items are all pairs of an image and a class outside the fold that occurs in it. Test items are draws from
    the pairs of the fold's classes, see `Episodes`.

    Args:
        images, annotations: folders; the label ids are those of `FewShotLabels`.
        split: name or file of a split with `classes` and `folds`; see `load_split`.
        fold: index of the fold whose classes are unseen.
        part: `train` or `test`.
        pipeline: transforms.
        root: prefix of every relative path given here.
        keys: file that lists the images of this part, one per line; see `find_listed`.
        class_names: names that replace those of the split, in the same order: a list, a names file or a list of the
            package; LSeg's official weights were trained on `lseg_pascal_20` and `lseg_coco_80`.
        episodes: a dict with some of the fields of `Episodes`: lists of pairs, and the draws of the test part.
        labels: a dict with some of the fields of `FewShotLabels`: the ids in the label maps.
        loading, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: a missing folder or file, named with its argument.
        TypeError: an unknown argument in a group.
        ValueError: a split without folds, an unknown fold, part or way to draw; a fold without images; `class_names`
            of the wrong length; a pair that is listed twice.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        split: str | Path,
        fold: int,
        part: Literal["train", "test"],
        pipeline: Sequence[dict | Transform],
        *,
        root: str | Path = "",
        keys: str | Path | None = None,
        class_names: Sequence[str | Sequence[str]] | str | Path | None = None,
        episodes: Mapping[str, Any] | Episodes | None = None,
        labels: Mapping[str, Any] | FewShotLabels | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        name: str = "",
    ) -> None:
        check_choice("part", part, ("train", "test"))
        check_paths(dict(keys=keys), root=root, images=images, annotations=annotations)
        super().__init__(
            pipeline, loading=loading, test_mode=part == "test", name=name or place_name(root, keys or annotations)
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys, self.part = images, annotations, keys, part
        self.episodes = argument_group("episodes", episodes, Episodes)
        self.labels = argument_group("labels", labels, FewShotLabels)
        names, self.fold_classes = _load_fold(split, whole_number(fold, "fold"), self.root)
        if class_names is not None:
            names = one_name_per_class("class_names", class_names, self.root, len(names))
        self.class_names = names
        self.class_ids = _ids_of_classes(self.labels.first_id, len(names))
        if self.labels.boundary in self.class_ids:
            raise ValueError(
                f"labels.boundary: {self.labels.boundary} is the id of a class by labels.first_id; give another, such "
                "as 255"
            )

    @property
    def classes(self) -> list[int]:
        """Indices of the classes of this part."""
        if self.part == "test":
            return self.fold_classes
        return [index for index in range(len(self.class_names)) if index not in self.fold_classes]

    def load_index(self) -> list[dict[str, Any]]:
        """List the episodes of this part."""
        files, classes = self._files(), set(self.classes)
        listed = _list_of_files(self.episodes.pairs)
        pairs_of_split = self._listed_pairs(listed) if listed else self._pairs_in_labels(files)
        stated_by = {pair: source for pair, source in pairs_of_split.items() if pair[1] in classes}
        if not stated_by:
            raise ValueError(f"{self.name}: no image shows a class of this part: {self.metainfo['classes']}")
        missing = [pair for pair in stated_by if pair[0] not in files]
        if missing:
            raise FileNotFoundError(
                f"episodes.pairs: {len(missing)} listed pairs are of images that have no files; the first is "
                f"{missing[0][0]!r}: {stated_by[missing[0]]}"
            )
        self._log_summary(stated_by)
        pairs = list(stated_by)
        if self.part == "train":
            chosen = pairs
        else:
            chosen = draw_episodes(pairs, self.episodes.count, self.episodes.draw, self.episodes.seed)
        return [
            self._item(number, key, index, *files[key], stated_by[key, index])
            for number, (key, index) in enumerate(chosen)
        ]

    def _log_summary(self, pairs: Iterable[Pair]) -> None:
        """Log the number of images and classes; as a warning, which classes of this part no image shows."""
        pairs = list(pairs)
        present = {index for _, index in pairs}
        absent = [self.class_names[index] for index in self.classes if index not in present]
        line = f"{self.name}: {len({key for key, _ in pairs})} images, {len(self.classes)} classes"
        without = f"; no image shows {len(absent)} of them: {some_names(absent)}" if absent else ""
        logger.log(logging.WARNING if absent else logging.INFO, line + without)

    @property
    def label_reader(self) -> Callable[[str | Path, int | None], np.ndarray]:
        """(path, largest number of pixels) -> raw label ids, (H, W)."""
        return read_label_map

    @cached_property
    def label_tables(self) -> dict[int, LabelTable]:
        """Table of each class of this part: its id becomes 1, all others 0."""
        boundary = [self.labels.boundary]
        others, ignored = (boundary, []) if self.part == "train" else ([], boundary)
        all_others = dict.fromkeys((*self.class_ids, 0, *others), OTHERS)
        advice = "first_id and boundary, in labels=dict(...), define what an id means"
        return {
            index: LabelTable(
                {**all_others, self.class_ids[index]: CLASS}, ignored, 2, ignore_unlisted=False, advice=advice
            )
            for index in self.classes
        }

    def _files(self) -> dict[str, tuple[Path, Path]]:
        """Return the files of image and label map of every key."""
        image_folder = check_folder(self.root / self.images, "images")
        label_folder = check_folder(self.root / self.annotations, "annotations")
        keys = None if self.keys is None else self.root / self.keys
        images = files_by_key(image_folder)
        labels = select_listed(files_by_key(label_folder), keys, label_folder)
        return {
            key: (image, label)
            for key, image, label in pair_files(images, labels, PAIR_RULE, require_annotations=False)
        }

    def _listed_pairs(self, lists: Sequence[str | Path]) -> dict[Pair, str]:
        """Return the pairs of the lists, each with its source for messages.

        Raises:
            ValueError: a pair that is listed twice.
        """
        source_of: dict[Pair, str] = {}
        for file in lists:
            for source, pair in _read_pairs(self.root / file, len(self.class_names)):
                if pair in source_of:
                    raise ValueError(f"episodes.pairs: listed twice: {source_of[pair]} and {source}; remove one")
                source_of[pair] = source
        return {pair: f"episodes.pairs lists it: {source}" for pair, source in source_of.items()}

    def _pairs_in_labels(self, files: dict[str, tuple[Path, Path]]) -> dict[Pair, str]:
        """Read every label map, and return the pairs of its image and each class that it shows."""
        logger.info(f"{self.name}: reading {len(files)} label maps to find which classes they show")
        index_of_id = {raw_id: index for index, raw_id in enumerate(self.class_ids)}
        pairs: list[Pair] = []
        for key, (_, label) in files.items():
            try:
                raw_ids = np.unique(read_label_map(label)).tolist()
            except BadSample as error:
                self.note_unusable(error)
                continue
            pairs += [(key, index_of_id[raw_id]) for raw_id in raw_ids if raw_id in index_of_id]
        return dict.fromkeys(pairs, "it had some when the label maps were first read")

    def _item(self, number: int, key: str, index: int, image: Path, label: Path, stated_by: str) -> dict[str, Any]:
        """Return the entry of the index for one episode."""
        return {
            "sample_id": f"{number}:{key}:{self.class_names[index]}",
            "img_path": str(image),
            "seg_map_path": str(label),
            "class_index": index,
            "stated_by": stated_by,
        }


def draw_episodes(pairs: Sequence[Pair], count: int, draw: Literal["cycle", "random"], seed: int) -> list[Pair]:
    """Choose `count` test episodes, the same ones on every machine.

    Args:
        pairs: all pairs (image, class) of the fold.
        count: number of episodes.
        draw: `cycle` repeats the list; `random` draws a class, then one of its images.
        seed: seed of the random draws.
    """
    if draw == "cycle":
        return [pairs[number % len(pairs)] for number in range(count)]
    by_class: dict[int, list[Pair]] = {}
    for pair in pairs:
        by_class.setdefault(pair[1], []).append(pair)
    generator = random.Random(seed)
    classes = sorted(by_class)
    return [generator.choice(by_class[generator.choice(classes)]) for _ in range(count)]


def _read_pairs(path: Path, num_classes: int) -> Iterator[tuple[str, Pair]]:
    """Yield for each entry its file and text, for messages, and its pair."""
    for entry in read_keys(path, "episodes.pairs"):
        key, _, number = entry.rpartition("__")
        if not (key and number.isdecimal() and number.isascii()):
            raise ValueError(f"episodes.pairs: {path}: expected lines 'stem__class', got {entry[:60]!r}")
        if not 1 <= int(number) <= num_classes:
            raise ValueError(
                f"episodes.pairs: {path}: classes are numbered from 1 to {num_classes}, got {entry[:60]!r}"
            )
        yield f"{path}: {entry}", (normal_key(key), int(number) - 1)


def _list_of_files(pairs: str | Path | Sequence[str | Path] | None) -> list[str | Path]:
    """Return the files that the argument `episodes.pairs` gives."""
    if pairs is None:
        return []
    files = [pairs] if isinstance(pairs, (str, Path)) else pairs
    if not isinstance(files, Sequence) or not files:
        raise ValueError(f"episodes.pairs: expected a file or a list of files, got {pairs!r}")
    for file in files:
        if not isinstance(file, (str, os.PathLike)):
            raise ValueError(f"episodes.pairs: expected a path, got {file!r}")
    return list(files)


def _load_fold(split: str | Path, fold: int, root: Path) -> tuple[list[str], list[int]]:
    """Return the class names of a split and the classes of one of its folds."""
    content = load_split(split, "split", root)
    folds = content.get("folds")
    if "classes" not in content or not isinstance(folds, list):
        raise ValueError(
            f"split: {split} has no folds: expected 'classes' (a class list) and 'folds' (class indices of each), "
            f"got the keys {sorted(content)}"
        )
    names = one_name_per_class("split", content["classes"], root)
    if not 0 <= fold < len(folds):
        raise ValueError(f"fold: {split} has the folds 0 to {len(folds) - 1}, got {fold}")
    classes = whole_numbers(folds[fold], f"split: {split}: fold {fold}")
    wrong = [index for index in classes if not 0 <= index < len(names)]
    if wrong:
        raise ValueError(f"split: {split}: fold {fold}: expected class indices below {len(names)}, got {wrong}")
    return names, classes


def _ids_of_classes(first_id: int | Sequence[int], count: int) -> list[int]:
    """Return the label id of each class."""
    if isinstance(first_id, Sequence) and not isinstance(first_id, str):
        return list(class_of_each_id("labels.first_id", first_id, count))
    first = whole_number(first_id, "labels.first_id")
    return list(range(first, first + count))
