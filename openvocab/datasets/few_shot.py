"""PASCAL-5i and COCO-20i in their zero-shot form: one image, two texts, "others" and a class."""

import logging
import random
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform, place_name
from openvocab.datasets.class_lists import class_names_path, load_split
from openvocab.datasets.folder_walk import check_folder, files_by_key
from openvocab.datasets.image_io import BadSample, read_label_map
from openvocab.datasets.image_label_pairs import pair, read_keys, select_listed
from openvocab.datasets.label_table import LabelTable
from openvocab.registry import DATASETS
from openvocab.structures import IGNORE_INDEX
from openvocab.text.vocabulary import Vocabulary, read_class_names, some_names

logger = logging.getLogger(__name__)

OTHERS = 0
Pair = tuple[str, int]
"""Key of an image, and the index of a class that occurs in it."""


@DATASETS.register_module()
class FewShotDataset(PipelineDataset):
    """Episodes of a few-shot fold as LSeg uses them (arXiv 2201.03546): no support image, the class is named instead.

    Every item has a vocabulary of its own, ("others", class): test them one a batch; `EpisodeSampler` draws those of
    training.

    Training items are all pairs of an image and a class outside the fold that occurs in it. Test items are `episodes`
    draws from the pairs of the fold's classes: `draw="cycle"` walks through the pairs again and again (PASCAL-5i in
    HSNet's code), `draw="random"` draws a class and then an image that has it (COCO-20i), from `seed`.

    Args:
        images, annotations: folders; label ids as in `first_id`.
        split: name or file of a split with `classes` and `folds`.
        fold: index of the fold whose classes are unseen.
        part: `train` or `test`.
        pipeline: transforms.
        root: put before every relative path that is given here.
        keys: file that lists the images of this part, one a line; see `find_listed`.
        class_names: list of the package or names file whose words take the place of the split's, in the same order;
            LSeg's official weights were trained on `lseg_pascal_20` and `lseg_coco_80`.
        pairs: file, or files, that list the pairs, `stem__class` with classes counted from 1, as published with HSNet.
            Without it they are found by reading every label map once, which takes minutes for COCO.
        first_id: label id of the first class; a list gives the id of every class.
        boundary: id of unlabelled pixels; "others" in training, ignored in testing (as in the official code).
        episodes, draw, seed: of the test part.
        bad_samples, max_bad_share, cache_images, name: see `PipelineDataset`.

    Raises:
        ValueError: an unknown fold, part or way to draw; a fold without images; `class_names` of another length.
        FileNotFoundError: a missing folder or file, named with its argument.
    """

    def __init__(
        self,
        images: str | Path,
        annotations: str | Path,
        split: str,
        fold: int,
        part: Literal["train", "test"],
        pipeline: Sequence[dict | Transform],
        *,
        root: str | Path = "",
        keys: str | Path | None = None,
        class_names: str | Path | None = None,
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
        if part not in ("train", "test") or draw not in ("cycle", "random"):
            raise ValueError(f"expected part 'train' or 'test' and draw 'cycle' or 'random', got {part!r}, {draw!r}")
        super().__init__(
            pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=part == "test",
            name=name or place_name(root, keys or annotations),
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys, self.pairs = images, annotations, keys, pairs
        self.part, self.boundary = part, boundary
        self.episodes, self.draw, self.seed = episodes, draw, seed
        self.class_names = _class_names(load_split(split)["classes"], class_names)
        self.fold_classes = _fold(load_split(split)["folds"], fold, split)
        count = len(self.class_names)
        self.class_ids = list(range(first_id, first_id + count)) if isinstance(first_id, int) else list(first_id)

    @property
    def classes(self) -> list[int]:
        """Indices of the classes of this part."""
        if self.part == "test":
            return self.fold_classes
        return [index for index in range(len(self.class_names)) if index not in self.fold_classes]

    @property
    def class_of_item(self) -> list[int]:
        """Class index of each item, without loading it."""
        self.full_init()
        return [self._index[position]["class_index"] for position in range(len(self))]

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name and the class names of this part."""
        return {"dataset": self.name, "classes": [self.class_names[index] for index in self.classes]}

    def load_index(self) -> list[dict[str, Any]]:
        """List the episodes of this part."""
        files = self._files()
        pairs = self._listed_pairs() if self.pairs else self._pairs_in_labels(files)
        pairs = [one for one in pairs if one[1] in self.classes]
        if not pairs:
            raise ValueError(f"{self.name}: no image shows a class of this part: {self.metainfo['classes']}")
        self._log_summary(pairs)
        chosen = pairs if self.part == "train" else draw_episodes(pairs, self.episodes, self.draw, self.seed)
        missing = [key for key, _ in chosen if key not in files]
        if missing:
            raise FileNotFoundError(f"pairs: {len(missing)} listed images have no files, the first is {missing[0]!r}")
        return [self._item(number, key, index, *files[key]) for number, (key, index) in enumerate(chosen)]

    def _log_summary(self, pairs: Sequence[Pair]) -> None:
        """Log how much there is; as a warning, which classes of this part no image shows."""
        met = {index for _, index in pairs}
        absent = [self.class_names[index] for index in self.classes if index not in met]
        line = f"{self.name}: {len({key for key, _ in pairs})} images, {len(self.classes)} classes"
        without = f"; no image shows {len(absent)} of them: {some_names(absent)}" if absent else ""
        logger.log(logging.WARNING if absent else logging.INFO, line + without)

    def start_results(self, item: dict[str, Any]) -> dict[str, Any]:
        """Add the vocabulary of the episode and the means to read its labels."""
        index = item.pop("class_index")
        return {
            **item,
            "vocabulary": Vocabulary.from_names(["others", self.class_names[index]], background="others"),
            "label_reader": read_label_map,
            "label_table": self._label_tables[index],
        }

    @cached_property
    def _label_tables(self) -> dict[int, LabelTable]:
        """Table of each class of this part: its id becomes 1, all others 0."""
        boundary = [self.boundary]
        others, ignored = (boundary, []) if self.part == "train" else ([], boundary)
        everything = dict.fromkeys((*self.class_ids, 0, *others), OTHERS)
        options = dict(ignore_unlisted=False, advice="first_id and boundary say what an id means")
        return {
            index: LabelTable({**everything, self.class_ids[index]: 1}, ignored, 2, **options) for index in self.classes
        }

    def _files(self) -> dict[str, tuple[Path, Path]]:
        """Return image and label map of every key."""
        image_folder = check_folder(self.root / self.images, "images")
        label_folder = check_folder(self.root / self.annotations, "annotations")
        keys = None if self.keys is None else self.root / self.keys
        images = files_by_key(image_folder)
        labels = select_listed(files_by_key(label_folder), keys, label_folder)
        return {key: (image, label) for key, image, label in pair(images, labels, require_annotations=False)}

    def _listed_pairs(self) -> list[Pair]:
        files = [self.pairs] if isinstance(self.pairs, (str, Path)) else self.pairs
        return [one for file in files for one in _read_pairs(self.root / file, len(self.class_names))]

    def _pairs_in_labels(self, files: dict[str, tuple[Path, Path]]) -> list[Pair]:
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
        return pairs

    def _item(self, number: int, key: str, index: int, image: Path, label: Path) -> dict[str, Any]:
        return {
            "sample_id": f"{number}:{key}:{self.class_names[index]}",
            "img_path": str(image),
            "seg_map_path": str(label),
            "class_index": index,
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


def _read_pairs(path: Path, num_classes: int) -> list[Pair]:
    lines = [line.rpartition("__") for line in read_keys(path, "pairs")]
    wrong = next((line for line in lines if not (line[0] and line[2].isdecimal() and line[2].isascii())), None)
    if wrong:
        raise ValueError(f"pairs: {path}: expected lines 'stem__class', got {''.join(wrong)[:60]!r}")
    beyond = next(("".join(line) for line in lines if not 1 <= int(line[2]) <= num_classes), None)
    if beyond:
        raise ValueError(f"pairs: {path}: classes count from 1 to {num_classes}, got {beyond[:60]!r}")
    return [(key, int(number) - 1) for key, _, number in lines]


def _fold(folds: Sequence[Sequence[int]], fold: int, split: str) -> list[int]:
    if not 0 <= fold < len(folds):
        raise ValueError(f"fold: {split} has the folds 0 to {len(folds) - 1}, got {fold}")
    return list(folds[fold])


def _class_names(of_split: str, own: str | Path | None) -> list[str]:
    names = read_class_names(class_names_path(of_split))
    chosen = names if own is None else read_class_names(class_names_path(own))
    if len(chosen) != len(names):
        raise ValueError(f"class_names: the split has {len(names)} classes, {own} has {len(chosen)} names")
    return [entry[0] for entry in chosen]
