"""Whatever a user calls an image, as (H, W, 3) uint8 RGB. Equal pixels in any container give equal arrays."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from openvocab.datasets.image_io import read_image

CHANNELS = (1, 3, 4)


def rgb_image(image: Any) -> np.ndarray:
    """Convert an image to (H, W, 3) uint8 RGB.

    Args:
        image: a path; a PIL image; a numpy array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; a torch tensor of
            these shapes or with the channels first, which is what torch means by an image. Alpha is dropped. Values:
            uint8; uint16 (the high byte counts); bool; integers in 0..255; floats in 0..1 if none is above 1, else in
            0..255.

    Raises:
        TypeError: something that is not an image.
        ValueError: a file that cannot be read, an empty array, NaN, values out of range or an unclear layout; the
            message says what to do.
    """
    if isinstance(image, (str, Path)):
        return read_image(image)
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    raise TypeError(f"expected a path, a PIL image, a numpy array or a torch tensor, got {type(image).__name__}")


def _from_pil(image: Image.Image) -> np.ndarray:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit, 32-bit and float grey: PIL's own conversion clips
        return _from_array(np.asarray(image))
    return np.array(image.convert("RGB"))


def _from_tensor(image: Tensor) -> np.ndarray:
    if image.ndim == 3 and image.shape[0] in CHANNELS:
        image = image.permute(1, 2, 0)  # (H, W, C)
    image = image.detach().cpu()
    return _from_array((image.float() if image.is_floating_point() else image).numpy())


def _from_array(image: np.ndarray) -> np.ndarray:
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in CHANNELS:
        raise ValueError(f"expected an image (H, W, 3), got {image.shape}; {_layout_hint(image)}")
    if 0 in image.shape:
        raise ValueError(f"the image is empty: {image.shape}")
    image = _to_uint8(image[:, :, :3])  # without alpha
    return np.array(np.broadcast_to(image, (*image.shape[:2], 3)), order="C")


def _layout_hint(image: np.ndarray) -> str:
    if image.ndim == 3 and image.shape[0] in CHANNELS:
        return "the channels seem to come first: use image.transpose(1, 2, 0)"
    if image.ndim == 4:
        return "give single images, or a list of them to predict_batch"
    return "1, 3 or 4 channels in the last dimension"


def _to_uint8(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image >> 8).astype(np.uint8)
    if image.dtype == np.bool_:
        return image.astype(np.uint8) * 255
    if not np.issubdtype(image.dtype, np.integer) and not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"expected an image of uint8 or float, got {image.dtype}")
    low, high = float(image.min()), float(image.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("the image contains NaN or infinity")
    if low < 0 or high > 255:
        raise ValueError(
            f"image values range from {low:g} to {high:g}; expected 0..255 or, as floats, 0..1. Normalised images must "
            "be turned back: the model normalises by itself"
        )
    if np.issubdtype(image.dtype, np.integer):
        return image.astype(np.uint8)
    return np.rint(image * _float_scale(high)).astype(np.uint8)


def _float_scale(high: float) -> float:
    """Decide between floats in 0..1 and in 0..255 by the largest."""
    if 1 < high < 2:
        raise ValueError(f"the largest value is {high:g}: neither 0..1 nor 0..255; clip the image or make it uint8")
    return 255.0 if high <= 1 else 1.0
