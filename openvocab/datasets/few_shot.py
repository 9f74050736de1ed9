"""PASCAL-5i and COCO-20i in their zero-shot form: one image, two texts, "others" and a class."""

import random
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mmengine.logging import print_log

from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform
from openvocab.datasets.class_lists import class_names_path, load_split
from openvocab.datasets.image_io import BadSample, read_label_map
from openvocab.datasets.image_label_pairs import check_folder, files_by_key, pair, read_keys, select
from openvocab.datasets.label_table import LabelTable
from openvocab.registry import DATASETS
from openvocab.structures import IGNORE_INDEX
from openvocab.text.vocabulary import Vocabulary, read_class_names

OTHERS = 0
Pair = tuple[str, int]
"""Key of an image, and the index of a class that occurs in it."""


@DATASETS.register_module()
class FewShotDataset(PipelineDataset):
    """Episodes of a few-shot fold as LSeg uses them (arXiv 2201.03546): no support image, the class is named instead.

    Every item has a vocabulary of its own, ("others", class): load them one a batch.

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
        keys: file that lists the images of this part, one stem a line.
        pairs: file that lists the pairs, `stem__class` with classes counted from 1, as published with HSNet. Without it
            they are found by reading every label map once, which takes minutes for COCO.
        first_id: label id of the first class; a list gives the id of every class.
        boundary: id of unlabelled pixels; "others" in training, ignored in testing (as in the official code).
        episodes, draw, seed: of the test part.
        bad_samples, max_bad_share, cache_images, name: see `PipelineDataset`.

    Raises:
        ValueError: an unknown fold, part or way to draw; a fold without images.
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
        pairs: str | Path | None = None,
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
            name=name,
        )
        self.root = Path(root)
        self.images, self.annotations, self.keys, self.pairs = images, annotations, keys, pairs
        self.part, self.boundary = part, boundary
        self.episodes, self.draw, self.seed = episodes, draw, seed
        self.class_names = [names[0] for names in read_class_names(class_names_path(load_split(split)["classes"]))]
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
    def metainfo(self) -> dict[str, Any]:
        """Name and the class names of this part."""
        return {"dataset": self.name, "classes": [self.class_names[index] for index in self.classes]}

    def load_index(self) -> list[dict[str, Any]]:
        """List the episodes of this part."""
        files = self._files()
        pairs = self._listed_pairs() if self.pairs else self._pairs_in_labels(files)
        pairs = [pair for pair in pairs if pair[1] in self.classes]
        if not pairs:
            raise ValueError(f"{self.name}: no image shows a class of this part: {self.metainfo['classes']}")
        chosen = pairs if self.part == "train" else draw_episodes(pairs, self.episodes, self.draw, self.seed)
        missing = [key for key, _ in chosen if key not in files]
        if missing:
            raise FileNotFoundError(f"pairs: {len(missing)} listed images have no files, the first is {missing[0]!r}")
        return [self._item(number, *pair, *files[pair[0]]) for number, pair in enumerate(chosen)]

    def common_results(self) -> dict[str, Any]:
        """Give every item the means to read its labels."""
        return {"label_reader": read_label_map}

    def _make(self, position: int) -> dict[str, Any]:
        raise NotImplementedError
