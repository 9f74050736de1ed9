"""Random changes of brightness, contrast, saturation and hue."""

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS

LEVELS = np.arange(256, dtype=np.float32)
HUES = 180  # of OpenCV's uint8 HSV


@TRANSFORMS.register_module()
class PhotometricDistortion(BaseTransform):
    """Random brightness, contrast, saturation and hue, each with probability one half (SSD's recipe, arXiv 1512.02325).

    Images stay uint8: one look-up table for brightness and contrast, and one per channel for saturation and hue.

    Args:
        brightness: largest shift, in gray levels.
        contrast, saturation: (low, high) factors.
        hue: largest shift, in degrees of 180 (OpenCV's half degrees).
    """

    def __init__(
        self,
        brightness: int = 32,
        contrast: tuple[float, float] = (0.5, 1.5),
        saturation: tuple[float, float] = (0.5, 1.5),
        hue: int = 18,
    ) -> None:
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def transform(self, results: Results) -> Results:
        """Distort `img`, (H, W, 3) uint8 BGR."""
        shift = _maybe(np.random.uniform(-self.brightness, self.brightness), 0.0)
        factor = _maybe(np.random.uniform(*self.contrast), 1.0)
        saturation = _maybe(np.random.uniform(*self.saturation), 1.0)
        hue = _maybe(np.random.randint(-self.hue, self.hue + 1), 0)
        image = results["img"]
        if shift or factor != 1:
            image = cv2.LUT(image, _table((LEVELS + shift) * factor))
        if saturation != 1 or hue:
            image = _distort_color(image, saturation, hue)
        results["img"] = image
        return results


def _distort_color(image: np.ndarray, saturation: float, hue: float) -> np.ndarray:
    """Return the image (H, W, 3) uint8 BGR with its saturation scaled and its hue shifted."""
    # Hue is an angle and wraps around; the other channels saturate.
    tables = np.stack([(LEVELS + hue) % HUES, LEVELS * saturation, LEVELS], axis=-1)  # (256, 3)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2HSV), _table(tables)[None])
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)


def _maybe(value: float, neutral: float) -> float:
    """Return `value` with probability one half, else `neutral`."""
    return value if np.random.random() < 0.5 else neutral


def _table(values: np.ndarray) -> np.ndarray:
    """Return a look-up table, rounded and clipped to uint8."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
