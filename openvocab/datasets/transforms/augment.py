"""Augmentation for classification and pretraining: color jitter, gray, blur, RandAugment, random erasing.

SimCLR's (arXiv 2002.05709), which SLIP, DeCLIP and x-clip take for their second view, is `RandomResizedCrop` of an area
from 0.2 (0.08), `RandomFlip(0.5)`, `ColorJitter(0.4, 0.4, 0.4, 0.1, prob=0.8)`, `RandomGrayscale(0.2)` and
`GaussianBlur((0.1, 2.0), prob=0.5)`.

They need not know of boxes or label maps: use them where the label belongs to the whole image.
"""

import math

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision import transforms as torchvision_transforms

from openvocab.argument_checks import check_choice
from openvocab.datasets.transforms.crops import INTERPOLATIONS
from openvocab.registry import TRANSFORMS

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
"""RGB of pixel values in 0..255."""
TRIES = 10
FILLS = ("noise", "mean")


@TRANSFORMS.register_module()
class ColorJitter(BaseTransform):
    """torchvision's color jitter: brightness, contrast, saturation and hue in random order, each always drawn.

    `PhotometricDistortion` is the faster and milder kin of it for dense prediction.

    Args:
        brightness, contrast, saturation: factors are drawn from 1 - x to 1 + x.
        hue: shifts are drawn from -x to x, of a full turn; at most 0.5.
        prob: share of the images that are changed at all.

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
        _check_share("prob", prob)
        self.jitter = torchvision_transforms.ColorJitter(brightness, contrast, saturation, hue)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Change the colors of `img`."""
        if np.random.random() < self.prob:
            results["img"] = _to_bgr(self.jitter(_to_pil(results["img"])))
        return results


@TRANSFORMS.register_module()
class RandomGrayscale(BaseTransform):
    """Take the colors away, and keep three equal channels.

    Args:
        prob: share of the images that lose them. SimCLR: 0.2.

    Raises:
        ValueError: a share out of range.
    """

    def __init__(self, prob: float = 0.2) -> None:
        _check_share("prob", prob)
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Turn `img` gray, by the luma of ITU-R 601."""
        if np.random.random() < self.prob:
            results["img"] = cv2.cvtColor(cv2.cvtColor(results["img"], cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        return results


@TRANSFORMS.register_module()
class GaussianBlur(BaseTransform):
    """Blur with a Gaussian of random width.

    Args:
        sigma: range of its standard deviation, in pixels. SimCLR at 224 px: 0.1 to 2.
        prob: share of the images that are blurred. SimCLR: 0.5.

    Raises:
        ValueError: a share out of range, a range that is none.
    """

    def __init__(self, sigma: tuple[float, float] = (0.1, 2.0), prob: float = 0.5) -> None:
        _check_share("prob", prob)
        if not 0 < sigma[0] <= sigma[1]:
            raise ValueError(f"sigma: expected 0 < low <= high, got {tuple(sigma)}")
        self.sigma, self.prob = tuple(sigma), prob

    def transform(self, results: dict) -> dict:
        """Blur `img`; edges are reflected."""
        if np.random.random() < self.prob:
            sigma = np.random.uniform(*self.sigma)
            reach = 2 * math.ceil(4 * sigma) + 1  # cells of the kernel along a side: four deviations either way
            results["img"] = cv2.GaussianBlur(results["img"], (reach, reach), sigma, borderType=cv2.BORDER_REFLECT_101)
        return results


@TRANSFORMS.register_module()
class RandAugment(BaseTransform):
    """timm's RandAugment (arXiv 1909.13719), by its short notation.

    Args:
        policy: `rand-m9-mstd0.5-inc1` is that of DeiT and GroupViT: two random changes, each made half the time, of
            magnitude 9 with a standard deviation of 0.5, all growing with the magnitude. Among them are shears,
            rotations and shifts: labels must not depend on places.
        interpolation: of these: "bilinear", "bicubic", or "random" for one of the two each time (timm's default).

    Raises:
        ValueError: a policy that timm does not read, an unknown interpolation.
    """

    def __init__(self, policy: str = "rand-m9-mstd0.5-inc1", interpolation: str = "random") -> None:
        self.policy = policy
        if interpolation not in (*INTERPOLATIONS, "random"):
            raise ValueError(f"interpolation: expected bilinear, bicubic or random, got {interpolation!r}")
        options = {"img_mean": tuple(round(value) for value in IMAGENET_MEAN)}
        if interpolation != "random":
            options["interpolation"] = INTERPOLATIONS[interpolation]
        try:
            self.augment = rand_augment_transform(policy, options)
        except (AssertionError, ValueError, KeyError) as error:
            raise ValueError(
                f"policy: expected timm's notation, such as 'rand-m9-mstd0.5-inc1', got {policy!r}"
            ) from error

    def transform(self, results: dict) -> dict:
        """Augment `img`."""
        results["img"] = _to_bgr(self.augment(_to_pil(results["img"])))
        return results


@TRANSFORMS.register_module()
class RandomErasing(BaseTransform):
    """Overwrite a random rectangle (arXiv 1708.04896).

    Args:
        prob: share of the images that lose one.
        area: range of the rectangle's share of the image.
        aspect: range of width over height, drawn on a logarithmic scale.
        fill: "noise", a normal draw for each value with ImageNet's mean and deviation ("pixel" in DeiT and timm), or
            "mean", ImageNet's mean color.

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
        _check_share("prob", prob)
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"area: expected 0 < low <= high <= 1, got {tuple(area)}")
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"aspect: expected 0 < low <= high, got {tuple(aspect)}")
        check_choice("fill", fill, FILLS)
        self.prob, self.area, self.aspect, self.fill = prob, tuple(area), tuple(aspect), fill

    def transform(self, results: dict) -> dict:
        """Erase a part of a copy of `img`."""
        if np.random.random() >= self.prob:
            return results
        image = results["img"].copy()
        for _ in range(TRIES):
            pixels = image.shape[0] * image.shape[1] * np.random.uniform(*self.area)
            aspect = math.exp(np.random.uniform(*map(math.log, self.aspect)))
            height, width = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
            if 0 < height < image.shape[0] and 0 < width < image.shape[1]:
                top = np.random.randint(image.shape[0] - height + 1)
                left = np.random.randint(image.shape[1] - width + 1)
                image[top : top + height, left : left + width] = self._filling(height, width)
                break
        results["img"] = image
        return results

    def _filling(self, height: int, width: int) -> np.ndarray:
        """Return (height, width, 3) BGR."""
        mean, std = np.array(IMAGENET_MEAN[::-1]), np.array(IMAGENET_STD[::-1])
        values = np.broadcast_to(mean, (height, width, 3))
        if self.fill == "noise":
            values = mean + std * np.random.standard_normal((height, width, 3))
        return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a share from 0 to 1, got {value}")


def _to_pil(image: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image[:, :, ::-1]))  # BGR -> RGB


def _to_bgr(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(image)[:, :, ::-1])
