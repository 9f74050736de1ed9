"""FSS-1000 in its zero-shot form: one image, two texts, "others" and a class."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform, check_choice, place_name
from openvocab.datasets.class_lists import class_names_path, load_split
from openvocab.datasets.folder_walk import check_folder, files_by_key
from openvocab.datasets.image_io import MAX_PIXELS, BadSample, read_image_bgr
from openvocab.datasets.label_table import LabelTable
from openvocab.registry import DATASETS
from openvocab.text.vocabulary import Vocabulary, read_class_names

FOREGROUND = 128
"""Grey value from which a pixel of a mask belongs to the class."""


@DATASETS.register_module()
class FSS1000Dataset(PipelineDataset):
    """Images of one object each, in a folder a class: `root/zucchini/1.jpg` and the mask `root/zucchini/1.png`.

    Every item has a vocabulary of its own, ("others", class), as LSeg uses them (arXiv 2201.03546): test them one a
    batch; `EpisodeSampler` draws those of training.

    Args:
        root: folder of the class folders.
        part: `train` (520 classes), `val` (240) or `test` (240).
        pipeline: transforms.
        class_names: names file with a word for each of the 1000 classes, in the order of the split `fss1000`; default:
            the names of the folders as they are ("ac_wall"), on which LSeg was trained.
        bad_samples, max_bad_share, cache_images, name: see `PipelineDataset`.

    Raises:
        ValueError: an unknown part, `class_names` of another length.
        FileNotFoundError: no root, a missing class folder, or an image without a mask.

    Reference: FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation, arXiv 1907.12347.
    """

    def __init__(
        self,
        root: str | Path,
        part: Literal["train", "val", "test"],
        pipeline: Sequence[dict | Transform],
        *,
        class_names: str | Path | None = None,
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        name: str = "",
    ) -> None:
        check_choice("part", part, ("train", "val", "test"))
        super().__init__(
            pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=part != "train",
            name=name or place_name(root, part),
        )
        self.root = Path(root)
        parts = load_split("fss1000")["parts"]
        self.folders = [folder for folders in parts.values() for folder in folders]
        self.class_names = self.folders if class_names is None else _first_names(class_names)
        if len(self.class_names) != len(self.folders):
            raise ValueError(f"class_names: expected {len(self.folders)}, got {len(self.class_names)}")
        first = self.folders.index(parts[part][0])
        self.classes = range(first, first + len(parts[part]))

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
        """List the images of this part, class by class."""
        check_folder(self.root, "root")
        absent = [self.folders[index] for index in self.classes if not (self.root / self.folders[index]).is_dir()]
        if absent:
            raise FileNotFoundError(
                f"root: {len(absent)} of {len(self.classes)} class folders are not in {self.root}, "
                f"the first is {absent[0]!r}"
            )
        return [item for index in self.classes for item in self._items_of(index)]

    def start_results(self, item: dict[str, Any]) -> dict[str, Any]:
        """Add the vocabulary of the item and the means to read its mask."""
        index = item.pop("class_index")
        return {
            **item,
            "vocabulary": Vocabulary((("others",), (self.class_names[index],)), background=0),  # texts as they are
            "label_reader": read_mask,
            "label_table": self._label_table,
        }

    @cached_property
    def _label_table(self) -> LabelTable:
        return LabelTable({0: 0, 1: 1}, [], 2, ignore_unlisted=False)

    def _items_of(self, index: int) -> list[dict[str, Any]]:
        items = []
        folder = self.root / self.folders[index]
        masks = files_by_key(folder, extensions=[".png"])
        images = files_by_key(folder, extensions=[".jpg"])
        if not images:
            raise FileNotFoundError(f"root: the class folder {folder} holds no .jpg images")
        lonely = [mask for key, mask in masks.items() if key not in images]
        if lonely:
            raise FileNotFoundError(f"{lonely[0]} has no image {lonely[0].stem}.jpg beside it")
        for key, image in images.items():
            if key not in masks:
                raise FileNotFoundError(f"{image} has no mask {key}.png beside it")
            paths = {"img_path": str(image), "seg_map_path": str(masks[key])}
            items.append({"sample_id": f"{self.folders[index]}/{key}", "class_index": index, **paths})
        return items


def read_mask(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read a black and white picture as (H, W) uint8: 1 where it is brighter than half, else 0.

    Args:
        max_pixels: see `read_image`.

    Raises:
        BadSample: see `read_image`; a mask with pixels that are brighter than black and none that is bright.
    """
    grey = cv2.cvtColor(read_image_bgr(path, max_pixels), cv2.COLOR_BGR2GRAY)
    if 0 < grey.max() < FOREGROUND:
        raise BadSample(path, f"expected a black and white mask, but its brightest pixel is {grey.max()} of 255")
    return (grey >= FOREGROUND).astype(np.uint8)


def _first_names(classes: str | Path) -> list[str]:
    return [names[0] for names in read_class_names(class_names_path(classes))]
