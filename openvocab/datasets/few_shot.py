"""PASCAL-5i and COCO-20i in their zero-shot form: pairs of an image and a class of a fold."""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openvocab.argument_checks import check_choice, check_paths
from openvocab.datasets.base import BadSamplePolicy, Transform, place_name
from openvocab.datasets.episode_dataset import CLASS, OTHERS, EpisodeDataset, one_name_a_class
from openvocab.datasets.files.folder_walk import check_folder, files_by_key, normal_key
from openvocab.datasets.files.image_label_pairs import pair, read_keys, select_listed
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


@DATASETS.register_module()
class FewShotDataset(EpisodeDataset):
    """Episodes of a few-shot fold, see `EpisodeDataset`: no support image, the class is named instead.

    Training items are all pairs of an image and a class outside the fold that occurs in it. Test items are `episodes`
    draws from the pairs of the fold's classes: `draw="cycle"` walks through the pairs again and again (PASCAL-5i in
    HSNet's code), `draw="random"` draws a class and then an image that has it (COCO-20i), from `seed`.

    Args:
        images, annotations: folders; label ids as in `first_id`.
        split: name or file of a split with `classes` and `folds`; see `load_split`.
        fold: index of the fold whose classes are unseen.
        part: `train` or `test`.
        pipeline: transforms.
        root: put before every relative path that is given here.
        keys: file that lists the images of this part, one a line; see `find_listed`.
        class_names: words in the place of the split's, in the same order: a list, a names file or a list of the
            package; LSeg's official weights were trained on `lseg_pascal_20` and `lseg_coco_80`.
        pairs: file, or files, that list the pairs, `stem__class` with classes counted from 1, as published with HSNet.
            Without it they are found by reading every label map once, which takes minutes for COCO. An image that does
            not show the class that it is listed for is a bad sample.
        first_id: label id of the first class; a list gives the id of every class.
        boundary: id of unlabeled pixels; "others" in training, ignored in testing (as in the official code).
        episodes, draw, seed: of the test part.
        bad_samples, max_bad_share, cache_images, name: see `PipelineDataset`.

    Raises:
        ValueError: a split without folds, an unknown fold, part or way to draw; a fold without images; `class_names`
            of another length; a pair that is listed twice.
        FileNotFoundError: a missing folder or file, named with its argument.
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
        pairs: str | Path | Sequence[str | Path] | None = None,
        first_id: int | Sequence[int] = 1,
        boundary: int = IGNORE_INDEX,
        episodes: int = 1000,
        draw: Literal["cycle", "random"] = "cycle",
        seed: int = 0,
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        name: str = "",
    ) -> None:
        check_choice("part", part, ("train", "test"))
        check_choice("draw", draw, ("cycle", "random"))
        check_paths(dict(keys=keys), root=root, images=images, annotations=annotations)
        super().__init__(
            pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=part == "test",
            name=name or place_name(root, keys or annotations),
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys = images, annotations, keys
        self.pairs = None if pairs is None else _several(pairs)
        self.part, self.boundary = part, whole_number(boundary, "boundary")
        self.episodes, self.draw, self.seed = count_from_1(episodes, "episodes"), draw, whole_number(seed, "seed")
        names, self.fold_classes = _load_fold(split, whole_number(fold, "fold"), self.root)
        if class_names is not None:
            names = one_name_a_class("class_names", class_names, self.root, len(names))
        self.class_names = names
        self.class_ids = _ids_of_classes(first_id, len(names))
        if self.boundary in self.class_ids:
            raise ValueError(f"boundary: {self.boundary} is the id of a class by first_id; give another, such as 255")

    @property
    def classes(self) -> list[int]:
        """Indices of the classes of this part."""
        if self.part == "test":
            return self.fold_classes
        return [index for index in range(len(self.class_names)) if index not in self.fold_classes]

    def load_index(self) -> list[dict[str, Any]]:
        """List the episodes of this part."""
        files, classes = self._files(), set(self.classes)
        found = self._pairs_in_labels(files) if self.pairs is None else self._listed_pairs()
        stated_by = {one: statement for one, statement in found.items() if one[1] in classes}
        if not stated_by:
            raise ValueError(f"{self.name}: no image shows a class of this part: {self.metainfo['classes']}")
        missing = [one for one in stated_by if one[0] not in files]
        if missing:
            raise FileNotFoundError(
                f"pairs: {len(missing)} listed pairs are of images that have no files, the first is {missing[0][0]!r}: "
                f"{stated_by[missing[0]]}"
            )
        self._log_summary(stated_by)
        pairs = list(stated_by)
        chosen = pairs if self.part == "train" else draw_episodes(pairs, self.episodes, self.draw, self.seed)
        return [
            self._item(number, key, index, *files[key], stated_by[key, index])
            for number, (key, index) in enumerate(chosen)
        ]

    def _log_summary(self, pairs: Iterable[Pair]) -> None:
        """Log how much there is; as a warning, which classes of this part no image shows."""
        met = {index for _, index in pairs}
        absent = [self.class_names[index] for index in self.classes if index not in met]
        line = f"{self.name}: {len({key for key, _ in pairs})} images, {len(self.classes)} classes"
        without = f"; no image shows {len(absent)} of them: {some_names(absent)}" if absent else ""
        logger.log(logging.WARNING if absent else logging.INFO, line + without)

    @property
    def label_reader(self) -> Callable[[str, int | None], np.ndarray]:
        """Reads a label map."""
        return read_label_map

    @cached_property
    def label_tables(self) -> dict[int, LabelTable]:
        """Table of each class of this part: its id becomes 1, all others 0."""
        boundary = [self.boundary]
        others, ignored = (boundary, []) if self.part == "train" else ([], boundary)
        everything = dict.fromkeys((*self.class_ids, 0, *others), OTHERS)
        options = dict(ignore_unlisted=False, advice="first_id and boundary say what an id means")
        return {
            index: LabelTable({**everything, self.class_ids[index]: CLASS}, ignored, 2, **options)
            for index in self.classes
        }

    def _files(self) -> dict[str, tuple[Path, Path]]:
        """Return image and label map of every key."""
        image_folder = check_folder(self.root / self.images, "images")
        label_folder = check_folder(self.root / self.annotations, "annotations")
        keys = None if self.keys is None else self.root / self.keys
        images = files_by_key(image_folder)
        labels = select_listed(files_by_key(label_folder), keys, label_folder)
        return {key: (image, label) for key, image, label in pair(images, labels, PAIR_RULE, require_annotations=False)}

    def _listed_pairs(self) -> dict[Pair, str]:
        """Return the pairs of the lists, and where each is.

        Raises:
            ValueError: a pair that is listed twice.
        """
        found: dict[Pair, str] = {}
        for file in self.pairs:
            for place, one in _read_pairs(self.root / file, len(self.class_names)):
                if one in found:
                    raise ValueError(f"pairs: listed twice: {found[one]} and {place}; remove one")
                found[one] = place
        return {one: f"pairs lists it: {place}" for one, place in found.items()}

    def _pairs_in_labels(self, files: dict[str, tuple[Path, Path]]) -> dict[Pair, str]:
        """Read every label map and note which classes it shows."""
        logger.info(f"{self.name}: reading {len(files)} label maps to see which classes they show")
        index_of_id = {raw_id: index for index, raw_id in enumerate(self.class_ids)}
        pairs: list[Pair] = []
        for key, (_, label) in files.items():
            try:
                raw_ids = np.unique(read_label_map(label)).tolist()
            except BadSample as error:
                self.note_unusable(error)
                continue
            pairs += [(key, index_of_id[raw_id]) for raw_id in raw_ids if raw_id in index_of_id]
        return dict.fromkeys(pairs, "it had some when the pairs were looked for")

    def _item(self, number: int, key: str, index: int, image: Path, label: Path, stated_by: str) -> dict[str, Any]:
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
        pairs: all (image, class) of the fold.
        count: number of episodes.
        draw: `cycle` repeats the list; `random` draws a class, then one of its images.
        seed: of the random draws.
    """
    if draw == "cycle":
        return [pairs[number % len(pairs)] for number in range(count)]
    by_class: dict[int, list[Pair]] = {}
    for one in pairs:
        by_class.setdefault(one[1], []).append(one)
    generator = random.Random(seed)
    classes = sorted(by_class)
    return [generator.choice(by_class[generator.choice(classes)]) for _ in range(count)]


def _read_pairs(path: Path, num_classes: int) -> Iterator[tuple[str, Pair]]:
    """Yield file and entry, for messages, and the pair of each entry."""
    for entry in read_keys(path, "pairs"):
        key, _, number = entry.rpartition("__")
        if not (key and number.isdecimal() and number.isascii()):
            raise ValueError(f"pairs: {path}: expected lines 'stem__class', got {entry[:60]!r}")
        if not 1 <= int(number) <= num_classes:
            raise ValueError(f"pairs: {path}: classes count from 1 to {num_classes}, got {entry[:60]!r}")
        yield f"{path}: {entry}", (normal_key(key), int(number) - 1)


def _several(pairs: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Return the files that the argument `pairs` gives."""
    files = [pairs] if isinstance(pairs, (str, Path)) else pairs
    if not isinstance(files, Sequence) or not files:
        raise ValueError(f"pairs: expected a file or a list of files, got {pairs!r}")
    for file in files:
        check_paths(pairs=file)
    return list(files)


def _load_fold(split: str | Path, fold: int, root: Path) -> tuple[list[str], list[int]]:
    """Return the class names of a split and the classes of one of its folds."""
    content = load_split(split, "split", root)
    folds = content.get("folds")
    if "classes" not in content or not isinstance(folds, list):
        raise ValueError(
            f"split: {split} is not of folds: expected 'classes' (a class list) and 'folds' (class indices of each), "
            f"got the keys {sorted(content)}"
        )
    names = one_name_a_class("split", content["classes"], root)
    if not 0 <= fold < len(folds):
        raise ValueError(f"fold: {split} has the folds 0 to {len(folds) - 1}, got {fold}")
    classes = whole_numbers(folds[fold], f"split: {split}: fold {fold}")
    wrong = [index for index in classes if not 0 <= index < len(names)]
    if wrong:
        raise ValueError(f"split: {split}: fold {fold}: expected class indices below {len(names)}, got {wrong}")
    return names, classes


def _ids_of_classes(first_id: int | Sequence[int], count: int) -> list[int]:
    if isinstance(first_id, Sequence) and not isinstance(first_id, str):
        return list(class_of_each_id("first_id", first_id, count))
    first = whole_number(first_id, "first_id")
    return list(range(first, first + count))
