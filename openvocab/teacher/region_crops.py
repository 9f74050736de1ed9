"""From boxes to the square pictures that a CLIP looks at."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.structures import Size

CropRule = Literal["center", "squash"]
EDGE = 1e-3
"""A window reaches this far over its box before it is rounded outwards to whole pixels, as DetPro's do."""


def check_crop_rule(rule: str) -> None:
    """Check the name of a crop rule.

    Raises:
        ValueError: neither "center" nor "squash".
    """
    check_choice("crop", rule, get_args(CropRule))


def crop_windows(boxes: Tensor, size: Size, scales: Sequence[float]) -> np.ndarray:
    """Scale boxes about their centers and round them outwards to whole pixels of the image.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        size: (height, width) of the image.
        scales: S factors.

    Returns:
        (N, S, 4) int64 x1 y1 x2 y2, at least one pixel wide and high, within the image.
    """
    corners = boxes.double().numpy().reshape(-1, 2, 2)
    center = corners.mean(1, keepdims=True)  # (N, 1, 2)
    half = (corners[:, 1:] - corners[:, :1]) / 2 * np.asarray(scales, np.float64)[:, None]  # (N, S, 2)
    limit = np.array(size[::-1])  # (width, height)
    low = np.floor(center - half - EDGE).clip(0, limit - 1)
    high = np.ceil(center + half + EDGE).clip(low + 1, limit)
    return np.concatenate([low, high], axis=-1).astype(np.int64)  # (N, S, 4)


def crop_picture(image: Image.Image, window: Sequence[int], side: int, rule: CropRule) -> np.ndarray:
    """Cut a window out and resize it by Pillow's antialiased bicubic, the preprocessing that CLIP was trained with.

    OpenCV's and torch's resampling differ from it by more than rounding, and the part of the work that "center" throws
    away cannot be saved exactly: with `box=` Pillow may resize the axes in another order.

    Args:
        window: x1 y1 x2 y2, whole pixels.
        side: of the result.
        rule: "center" brings the short side to `side` and cuts off the ends of the long one, as the original does;
            "squash" shows all of the window and distorts it.

    Returns:
        (side, side, 3) uint8.
    """
    crop = image.crop(tuple(window))
    if rule == "squash":
        return np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC))
    width, height = crop.size
    short = min(width, height)
    width, height = int(side * width / short), int(side * height / short)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = crop.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
