"""Augmentation for classification and pretraining: color jitter, grayscale, blur, RandAugment, random erasing.

SimCLR's (arXiv 2002.05709), which SLIP, DeCLIP and x-clip take for their second view, is `RandomResizedCrop` of an area
from 0.2 (0.08), `RandomFlip(0.5)`, `ColorJitter(0.4, 0.4, 0.4, 0.1, prob=0.8)`, `RandomGrayscale(0.2)` and
`GaussianBlur((0.1, 2.0), prob=0.5)`.

They ignore boxes and label maps: `RandAugment` and `RandomErasing` are for labels of the whole image.
"""

import math
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image, ImageOps
from timm.data.auto_augment import rand_augment_transform
from torchvision import transforms as torchvision_transforms

from openvocab.argument_checks import check_choice
from openvocab.datasets.transforms.crops import INTERPOLATIONS, draw_part
from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""RGB, for pixel values in 0..255."""
MAX_DRAWS = 10
FILLS = ("noise", "mean")


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """torchvision's color jitter: brightness, contrast, saturation and hue, all changed, in random order.

    `PhotometricDistortion` is a faster and milder alternative for dense prediction.

    Args:
        brightness, contrast, saturation: x; factors are drawn from 1 - x to 1 + x.
        hue: x; shifts are drawn from -x to x, as a fraction of a full turn; at most 0.5.
        prob: probability that an image is changed at all.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.0,
        prob: float = 1.0,
    ) -> None:
        _check_probability("prob", prob)
        self.jitter = torchvision_transforms.ColorJitter(brightness, contrast, saturation, hue)
        self.prob = prob

    def transform(self, results: Results) -> Results:
        """Change the colors of `img`, (H, W, 3) uint8 BGR."""
        if np.random.random() < self.prob:
            results["img"] = _to_bgr(self.jitter(_to_pil(results["img"])))
        return results


@TRANSFORMS.register_module()
class RandomGrayscale(BaseTransform):
    """Convert to grayscale, in three equal channels.

    Args:
        prob: probability that an image is converted. SimCLR: 0.2.

    Raises:
        ValueError: a probability out of range.
    """

    def __init__(self, prob: float = 0.2) -> None:
        _check_probability("prob", prob)
        self.prob = prob

    def transform(self, results: Results) -> Results:
        """Convert `img`, (H, W, 3) uint8 BGR, by the luma of ITU-R 601."""
        if np.random.random() < self.prob:
            results["img"] = cv2.cvtColor(cv2.cvtColor(results["img"], cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return results


@TRANSFORMS.register_module()
class GaussianBlur(BaseTransform):
    """Blur with a Gaussian of random width.

    Args:
        sigma: range of its standard deviation, in pixels. SimCLR at 224 px: 0.1 to 2.
        prob: probability that an image is blurred. SimCLR: 0.5.

    Raises:
        ValueError: a probability out of range, an empty range.
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), prob: float = 0.5) -> None:
        _check_probability("prob", prob)
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"sigma: expected 0 < low <= high, got {tuple(sigma)}")
        self.sigma, self.prob = sigma, prob

    def transform(self, results: Results) -> Results:
        """Blur `img`, (H, W, 3) uint8; edges are reflected."""
        if np.random.random() < self.prob:
            sigma = np.random.uniform(*self.sigma)
            side = 2 * math.ceil(4 * sigma) + 1  # of the kernel: four standard deviations either way
            results["img"] = cv2.GaussianBlur(results["img"], (side, side), sigma, borderType=cv2.BORDER_REFLECT_101)
        return results


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """timm's RandAugment (arXiv 1909.13719), in its short notation.

    Args:
        policy: `rand-m9-mstd0.5-inc1` is that of DeiT and GroupViT: two random changes, each applied with probability
            one half, of magnitude 9 with a standard deviation of 0.5, all stronger with a larger magnitude. Among them
            are shears, rotations and shifts: labels must not depend on positions.
        interpolation: method of the geometric changes: "bilinear", "bicubic", or "random" for one of the two each time
            (timm's default).

    Raises:
        ValueError: a policy that timm cannot parse, an unknown interpolation.
    """

    def __init__(self, policy: str = "rand-m9-mstd0.5-inc1", interpolation: str = "random") -> None:
        self.policy = policy
        check_choice("interpolation", interpolation, (*INTERPOLATIONS, "random"))
        options: dict[str, Any] = {"img_mean": tuple(round(value) for value in IMAGENET_MEAN)}
        if interpolation != "random":
            options["interpolation"] = INTERPOLATIONS[interpolation]
        try:
            self.augment = rand_augment_transform(policy, options)
        except (AssertionError, ValueError, KeyError) as error:
            raise ValueError(
                f"policy: expected timm's notation, such as 'rand-m9-mstd0.5-inc1', got {policy!r}"
            ) from error
        for change in self.augment.ops:
            if change.name.startswith("Posterize"):
                change.aug_fn = _posterize

    def transform(self, results: Results) -> Results:
        """Augment `img`, (H, W, 3) uint8 BGR, which timm gets as an RGB picture."""
        results["img"] = _to_bgr(self.augment(_to_pil(results["img"])))
        return results


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Overwrite a random rectangle (arXiv 1708.04896).

    Args:
        prob: probability that a rectangle of an image is erased.
        area: range of the rectangle's area, as a fraction of the image's.
        aspect: range of width over height, drawn on a logarithmic scale.
        fill: "noise", a normal draw per pixel and channel with ImageNet's mean and standard deviation ("pixel" in DeiT
            and timm), or "mean", ImageNet's mean color.

    Raises:
        ValueError: a number out of range, an unknown fill.
    """

    def __init__(
        self,
        prob: float = 0.25,
        area: tuple[float, float] = (0.02, 1 / 3),
        aspect: tuple[float, float] = (0.3, 1 / 0.3),
        fill: str = "noise",
    ) -> None:
        _check_probability("prob", prob)
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"area: expected 0 < low <= high <= 1, got {tuple(area)}")
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"aspect: expected 0 < low <= high, got {tuple(aspect)}")
        check_choice("fill", fill, FILLS)
        self.prob, self.area, self.aspect, self.fill = prob, area, aspect, fill

    def transform(self, results: Results) -> Results:
        """Erase a part of a copy of `img`, (H, W, 3) uint8 BGR, which a cache may own."""
        if np.random.random() >= self.prob:
            return results
        image = results["img"].copy()
        for _ in range(MAX_DRAWS):
            height, width = draw_part(image.shape[0] * image.shape[1], self.area, self.aspect)
            # Strictly smaller than the image, as in timm: some of it must remain.
            if 0 < height < image.shape[0] and 0 < width < image.shape[1]:
                top = np.random.randint(image.shape[0] - height + 1)
                left = np.random.randint(image.shape[1] - width + 1)
                image[top : top + height, left : left + width] = self._fill_values(height, width)
                break
        results["img"] = image
        return results

    def _fill_values(self, height: int, width: int) -> np.ndarray:
        """Return the pixels of a rectangle, (height, width, 3) uint8 BGR."""
        mean, std = np.array(IMAGENET_MEAN[::-1]), np.array(IMAGENET_STD[::-1])
        values = np.broadcast_to(mean, (height, width, 3))
        if self.fill == "noise":
            values = mean + std * np.random.standard_normal((height, width, 3))
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _check_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a probability from 0 to 1, got {value}")


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))  # BGR -> RGB


def _to_bgr(image: Image.Image) -> np.ndarray:
    # RGB -> BGR; a view with a negative stride is no input for OpenCV or torch.
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])


def _posterize(image: Image.Image, bits_to_keep: int, **_: Any) -> Image.Image:
    """Keep the highest bits of each channel; timm draws 0 too, which is black and which Pillow rejects from 13 on."""
    if bits_to_keep >= 8:
        return image
    return ImageOps.posterize(image, bits_to_keep) if bits_to_keep else Image.new(image.mode, image.size)
