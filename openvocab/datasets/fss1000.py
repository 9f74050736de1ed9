"""FSS-1000 in the zero-shot form: images of one object each, in one folder per class."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from openvocab.argument_checks import check_choice, check_paths
from openvocab.datasets.base import Loading, Transform, place_name
from openvocab.datasets.episode_dataset import CLASS, OTHERS, EpisodeDataset, one_name_per_class
from openvocab.datasets.files.folder_walk import IMAGE_EXTENSIONS, check_folder, files_by_key
from openvocab.datasets.files.image_label_pairs import pair
from openvocab.datasets.files.label_table import LabelTable
from openvocab.images.image_io import MAX_PIXELS, BadSample, decode_image_bgr, read_image_bytes
from openvocab.registry import DATASETS
from openvocab.vocabulary.class_lists import load_split

FOREGROUND = 128
"""Smallest gray value of a mask's pixels that belong to the class."""
MIN_COLOR_DIFFERENCE = 16
"""A pixel is colored if two of its channels differ by at least this much."""
ADVICE = "the object is white, 255"
MASK_EXTENSIONS = frozenset((".png",))
PAIR_RULE = "an image and its mask lie side by side, 1.jpg and 1.png"


@DATASETS.register_module()
class FSS1000Dataset(EpisodeDataset):
    """Images of one object each, in one folder per class: `root/zucchini/1.jpg` and the mask `root/zucchini/1.png`.

    Items are as in `EpisodeDataset`. Masks are PNGs, see `read_mask`; an image has the name of its mask and any other
    image extension.

    Args:
        root: folder of the class folders.
        part: `train` (520 classes), `val` (240) or `test` (240).
        pipeline: transforms.
        class_names: a name for each of the 1000 classes, in the order of the split `fss1000`: a list, a names file or a
            list of the package. Default: the names of the folders as they are, underscores included ("ac_wall"), on
            which LSeg was trained.
        loading, name: see `PipelineDataset`.

    Raises:
        ValueError: an unknown part, `class_names` of the wrong length, or two images for one mask.
        FileNotFoundError: no root, a missing or empty class folder, an image without a mask or a mask without an image.

    Reference: FSS-1000: A 1000-Class Dataset for Few-Shot Segmentation, arXiv 1907.12347.
    """

    def __init__(
        self,
        root: str | Path,
        part: Literal["train", "val", "test"],
        pipeline: Sequence[dict | Transform],
        *,
        class_names: Sequence[str | Sequence[str]] | str | Path | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        name: str = "",
    ) -> None:
        check_paths(root=root)
        check_choice("part", part, ("train", "val", "test"))
        super().__init__(pipeline, loading=loading, test_mode=part != "train", name=name or place_name(root, part))
        self.root = Path(root)
        parts = load_split("fss1000")["parts"]
        self.folders: list[str] = [folder for folders in parts.values() for folder in folders]
        self.class_names = self.folders
        if class_names is not None:
            self.class_names = one_name_per_class("class_names", class_names, Path(), len(self.folders))
        first = self.folders.index(parts[part][0])
        self._classes = range(first, first + len(parts[part]))

    @property
    def classes(self) -> range:
        """Indices of the classes of this part."""
        return self._classes

    def load_index(self) -> list[dict[str, Any]]:
        """List the images of this part, class by class."""
        check_folder(self.root, "root")
        absent = [self.folders[index] for index in self.classes if not (self.root / self.folders[index]).is_dir()]
        if absent:
            raise FileNotFoundError(
                f"root: {len(absent)} of {len(self.classes)} class folders are not in {self.root}; "
                f"the first is {absent[0]!r}"
            )
        images: dict[str, Path] = {}
        masks: dict[str, Path] = {}
        for index in self.classes:
            images_of_class = self._files_of(index, IMAGE_EXTENSIONS - MASK_EXTENSIONS)
            if not images_of_class:
                raise FileNotFoundError(f"root: no images (.jpg) in the class folder {self.root / self.folders[index]}")
            images |= images_of_class
            masks |= self._files_of(index, MASK_EXTENSIONS)
        index_of = {self.folders[index]: index for index in self.classes}
        return [
            {
                "sample_id": key,
                "img_path": str(image),
                "seg_map_path": str(mask),
                "class_index": index_of[key.split("/")[0]],
                "stated_by": "every image of FSS-1000 shows its class",
            }
            for key, image, mask in pair(images, masks, PAIR_RULE)
        ]

    def _files_of(self, index: int, extensions: Collection[str]) -> dict[str, Path]:
        """Return the files of a class by key, which begins with the folder."""
        folder = self.folders[index]
        return {f"{folder}/{key}": path for key, path in files_by_key(self.root / folder, "", extensions).items()}

    @property
    def label_reader(self) -> Callable[[str | Path, int | None], np.ndarray]:
        """(path, largest number of pixels) -> mask, (H, W); see `read_mask`."""
        return read_mask

    @cached_property
    def label_tables(self) -> dict[int, LabelTable]:
        """The same table for each class of this part."""
        return dict.fromkeys(self.classes, LabelTable({0: OTHERS, 1: CLASS}, [], 2, ignore_unlisted=False))


def read_mask(path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
    """Read a black and white image as (H, W) uint8: 1 where it is brighter than half, else 0.

    A palette is converted to its colors; an alpha channel that is opaque everywhere is ignored.

    Args:
        path: path of the mask.
        max_pixels: see `read_image`.

    Raises:
        BadSample: see `read_image`; masks whose object is ambiguous: with transparent pixels, with more colored pixels
            than white ones, or with gray pixels and no bright one.
    """
    content = read_image_bytes(path, max_pixels)
    image = decode_image_bgr(content, path, max_pixels)
    if _is_transparent(content):
        raise BadSample(path, "transparent pixels: white or opaque may be the object; save the mask without alpha")
    gray, colored = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.ptp(image, axis=2) >= MIN_COLOR_DIFFERENCE
    if colored.sum() > ((gray >= FOREGROUND) & ~colored).sum():
        raise BadSample(path, "expected a black and white mask, but more pixels are colored than white; " + ADVICE)
    if 0 < gray.max() < FOREGROUND:
        reason = f"expected a black and white mask, but its brightest pixel is {gray.max()} of 255; {ADVICE}"
        raise BadSample(path, reason)
    return (gray >= FOREGROUND).astype(np.uint8)


def _is_transparent(content: bytes) -> bool:
    """Return whether any pixel of a PNG is less than opaque."""
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim < 3 or image.shape[2] < 4:  # None: no PNG, but a picture that Pillow decodes
        return False
    return bool((image[..., 3] < np.iinfo(str(image.dtype)).max).any())
