"""Square crops of boxes, the inputs of CLIP."""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from PIL import Image
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.structures import Size

CropRule = Literal["center", "squash"]
EDGE = 1e-3
"""Pixels by which a window is larger than its box on each side before it is rounded outwards, as in DetPro."""


def check_crop_rule(rule: str) -> None:
    """Check the name of a crop rule.

    Raises:
        ValueError: a name other than "center" and "squash".
    """
    check_choice("crop", rule, get_args(CropRule))


def crop_windows(boxes: Tensor, size: Size, scales: Sequence[float]) -> np.ndarray:
    """Scale boxes about their centers and round them outwards to whole pixels of the image.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        size: (height, width) of the image.
        scales: S factors.

    Returns:
        (N, S, 4) int64 x1 y1 x2 y2 inside the image, at least one pixel wide and high.
    """
    corners = boxes.double().numpy().reshape(-1, 2, 2)  # (N, 2, 2)
    center = corners.mean(1, keepdims=True)  # (N, 1, 2)
    half = (corners[:, 1:] - corners[:, :1]) / 2 * np.asarray(scales, np.float64)[:, None]  # (N, S, 2)
    limit = np.array(size[::-1])  # (width, height)
    # At least one pixel is left, even of a box at the border or without area.
    low = np.floor(center - half - EDGE).clip(0, limit - 1)
    high = np.ceil(center + half + EDGE).clip(low + 1, limit)
    return np.concatenate([low, high], axis=-1).astype(np.int64)  # (N, S, 4)


def crop_picture(image: Image.Image, window: Sequence[int], side: int, rule: CropRule) -> np.ndarray:
    """Crop a window and resize it by Pillow's antialiased bicubic filter, the preprocessing that CLIP was trained with.

    The resampling of OpenCV and torch differs from it by more than rounding. With "center", computing only the pixels
    that are returned would change them: with `box=`, Pillow may resize the axes in another order.

    Args:
        image: RGB.
        window: x1 y1 x2 y2, whole pixels.
        side: side of the result, in pixels.
        rule: "center" resizes the short side to `side` and crops the long one, as in CLIP's own preprocessing; "squash"
            resizes both sides to `side`, which distorts the window.

    Returns:
        (side, side, 3) uint8.
    """
    x1, y1, x2, y2 = window
    crop = image.crop((x1, y1, x2, y2))
    if rule == "squash":
        return np.asarray(crop.resize((side, side), Image.Resampling.BICUBIC))
    width, height = crop.size
    short = min(width, height)
    # Truncated and then rounded as by torchvision's Resize and CenterCrop.
    width, height = int(side * width / short), int(side * height / short)
    left, top = round((width - side) / 2), round((height - side) / 2)
    resized = crop.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))
