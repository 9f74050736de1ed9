"""Crops of whole images for classification and pretraining, resized with antialiasing as Pillow does it.

The classifiers that are tested or fine-tuned here were trained on images that Pillow or TensorFlow shrank with
antialiasing; `geometry.Resize`, made for dense prediction, does not use it.
"""

import math

import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from openvocab.argument_checks import check_choice
from openvocab.datasets.transforms.enlargement import check_enlargement
from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS
from openvocab.structures import Size

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
MAX_DRAWS = 10
Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels of the source."""


@TRANSFORMS.register_module()
class RandomResizedCrop(BaseTransform):
    """Cut a random part of the image and resize it to a fixed size (the "Inception crop", arXiv 1409.4842).

    Args:
        size: (height, width) of the result.
        area: range of the part's area, as a fraction of the image's.
        aspect: range of width over height, drawn on a logarithmic scale.
        interpolation: "bicubic" or "bilinear".

    If none of ten draws fits into the image, the largest central part within `aspect` is taken.

    Raises:
        ValueError: a range that is empty or not positive, an unknown interpolation.
    """

    def __init__(
        self,
        size: Size,
        area: tuple[float, float] = (0.08, 1.0),
        aspect: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bicubic",
    ) -> None:
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"area: expected 0 < low <= high <= 1, got {tuple(area)}")
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"aspect: expected 0 < low <= high, got {tuple(aspect)}")
        height, width = size
        self.size, self.area, self.aspect = (height, width), area, aspect
        self.method = _interpolation(interpolation)

    def transform(self, results: Results) -> Results:
        """Crop and resize `img` to (*size, 3), and set `crop_box` to the part that was cut out."""
        height, width = results["img"].shape[:2]
        box = self._draw((height, width))
        return {**_set_image(results, _resize(results["img"], self.size, self.method, box)), "crop_box": box}

    def _draw(self, size: Size) -> Box:
        """Draw a box within an image of `size`."""
        height, width = size
        for _ in range(MAX_DRAWS):
            part_height, part_width = draw_part(height * width, self.area, self.aspect)
            if 0 < part_height <= height and 0 < part_width <= width:
                top = np.random.randint(height - part_height + 1)
                left = np.random.randint(width - part_width + 1)
                return left, top, left + part_width, top + part_height
        return self._central(size)

    def _central(self, size: Size) -> Box:
        """Return the largest central box whose aspect ratio is in range."""
        height, width = size
        # The image's own aspect ratio, or the end of the range that is nearest to it.
        aspect = min(max(width / height, self.aspect[0]), self.aspect[1])
        part_height, part_width = min(height, round(width / aspect)), min(width, round(height * aspect))
        top, left = (height - part_height) // 2, (width - part_width) // 2
        return left, top, left + part_width, top + part_height


@TRANSFORMS.register_module()
class ResizeCenterCrop(BaseTransform):
    """Resize the short side, keeping the aspect ratio, and cut out the center: the usual evaluation of classifiers.

    Args:
        size: (height, width) of the result.
        short_side: in pixels, at least the longer side of `size`; default: that side (CLIP: only the ends of the long
            side are lost). The older custom is 256 for a crop of 224.
        interpolation: "bicubic" or "bilinear".

    Raises:
        ValueError: a short side that is shorter than the crop, an unknown interpolation.
    """

    def __init__(self, size: Size, short_side: int | None = None, interpolation: str = "bicubic") -> None:
        crop_height, crop_width = size
        self.size = (crop_height, crop_width)
        self.short_side = max(self.size) if short_side is None else short_side
        if self.short_side < max(self.size):
            raise ValueError(f"short_side: expected at least {max(self.size)}, a side of the crop, got {short_side}")
        self.method = _interpolation(interpolation)

    def transform(self, results: Results) -> Results:
        """Resize and crop `img` to (*size, 3)."""
        height, width = results["img"].shape[:2]
        short = min(height, width)
        # Truncated here and rounded below as by torchvision's Resize and CenterCrop, which CLIP uses.
        resized = int(self.short_side * height / short), int(self.short_side * width / short)
        check_enlargement(results, resized, "crop it: so narrow an image is mostly outside of its center")
        image = _resize(results["img"], resized, self.method)
        top, left = (round((length - crop) / 2) for length, crop in zip(resized, self.size))
        return _set_image(results, image[top : top + self.size[0], left : left + self.size[1]])


def _interpolation(name: str) -> Image.Resampling:
    check_choice("interpolation", name, INTERPOLATIONS)
    return INTERPOLATIONS[name]


def _resize(image: np.ndarray, size: Size, method: Image.Resampling, box: Box | None = None) -> np.ndarray:
    """Resize `box` of an image (H, W, 3) uint8 to `size`; default: the whole image."""
    if box is not None:
        left, top, right, bottom = box
        image = image[top:bottom, left:right]
    if image.shape[:2] == size:
        return image
    return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size[::-1], method))


def draw_part(pixels: int, area: tuple[float, float], aspect: tuple[float, float]) -> Size:
    """Draw the (height, width) of a part of an image.

    Args:
        pixels: number of pixels of the image.
        area: range of the part's area, as a fraction of the image's.
        aspect: range of width over height, drawn on a logarithmic scale.
    """
    part_pixels = pixels * np.random.uniform(*area)
    # On a logarithmic scale 1 : 2 is as likely as 2 : 1.
    low, high = map(math.log, aspect)
    ratio = math.exp(np.random.uniform(low, high))
    return round(math.sqrt(part_pixels / ratio)), round(math.sqrt(part_pixels * ratio))


def _set_image(results: Results, image: np.ndarray) -> Results:
    """Return `results` with another image, (H, W, 3).

    Raises:
        ValueError: there is a label map or a box, which this crop would not move.
    """
    if "gt_seg_map" in results or "instances" in results:
        raise ValueError("crops for classification do not move label maps or boxes; use Resize and RandomScaleCrop")
    return {**results, "img": image, "img_shape": (image.shape[0], image.shape[1])}
