"""Convert any kind of image to (H, W, 3) uint8 RGB. Equal pixels in any container give equal arrays."""

import os
import re
from typing import Any

import cv2
import numpy as np
from PIL import Image
from torch import Tensor

from openvocab.images.addresses import fetch, is_address
from openvocab.images.image_io import LARGE_BYTES, BadSample, decode_image_bgr, read_image
from openvocab.images.pil_image import load_pil, pil_orientation, upright

CHANNELS = (1, 3, 4)
SIXTEEN_BIT_FORMATS = ("PNG", "PPM")
"""Formats whose deep grays have 16 bits, although Pillow (for PNG: older versions) reads them as 32-bit mode I."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^/\\\\]")


def rgb_image(image: Any) -> np.ndarray:
    """Convert an image to (H, W, 3) uint8 RGB.

    Args:
        image: a path; an address (http, https), which is fetched; the bytes of an image file, or an open binary file; a
            PIL image; a numpy array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; a torch tensor of these shapes
            or with the channels first, torch's usual layout. Alpha is dropped. Values: uint8; uint16 in either byte
            order, and Pillow's modes for 16-bit files (the high byte counts); bool; other integers in 0..255; floats in
            0..1 if none is above 1, else in 0..255.

    Returns:
        (H, W, 3) uint8 RGB, a copy; for a uint8 RGB array above `LARGE_BYTES` a read-only view.

    Raises:
        TypeError: something that is not an image.
        ValueError: a file that cannot be read, an empty array, NaN, values out of range or an ambiguous layout; the
            message states what to do.
    """
    if is_path(image):
        if is_address(image):
            return _from_bytes(fetch(str(image)), str(image))
        return read_image(checked_path(image))
    if isinstance(image, (bytes, bytearray, memoryview)) or hasattr(image, "read"):
        return _from_file(image)
    if isinstance(image, Image.Image):
        return _from_pil(image)
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    hint = "; a list of images goes to predict_batch" if isinstance(image, (list, tuple)) else ""
    raise TypeError(
        "expected a path, the bytes of an image file, an open file, a PIL image, a numpy array or a torch tensor, got "
        f"{type(image).__name__}{hint}"
    )


def is_path(image: Any) -> bool:
    """Return whether an image is given by its path or address."""
    return isinstance(image, (str, os.PathLike))


def is_file_path(image: Any) -> bool:
    """Return whether an image is given by its path."""
    return is_path(image) and not is_address(image)


def checked_path(image: str | os.PathLike) -> str:
    """Return the path of one image file, as text.

    Raises:
        ValueError: a URL, a folder or a pattern; the message states what to do.
    """
    path = os.fspath(image)
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if _URL.match(path) and not os.path.exists(path):
        raise ValueError(f"{path}: only http and https are fetched; download the file and give its path, or its bytes")
    if os.path.isdir(path):
        raise ValueError(f"{path} is a folder, where one image is expected")
    if any(sign in path for sign in "*?") and not os.path.exists(path):
        raise ValueError(f"{path}: patterns are not expanded; give a list of the files, such as glob.glob({path!r})")
    return path


def accepted_image(image: Any) -> np.ndarray:
    """Return an image (H, W, 3) uint8 RGB that a pipeline has accepted before, so without a limit for its pixels."""
    return read_image(image, max_pixels=None) if is_file_path(image) else rgb_image(image)


def bgr_image(image: Any) -> np.ndarray:
    """Convert an image to (H, W, 3) uint8 BGR, the channel order of the transforms; see `rgb_image`."""
    rgb = rgb_image(image)
    return rgb[..., ::-1] if rgb.nbytes > LARGE_BYTES else cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _from_file(file: Any) -> np.ndarray:
    content = file.read() if hasattr(file, "read") else bytes(file)
    if not isinstance(content, bytes):
        raise TypeError(f"the file gives {type(content).__name__}; open it in binary mode: open(path, 'rb')")
    name = getattr(file, "name", None)
    return _from_bytes(content, name if isinstance(name, str) else "image")


def _from_bytes(content: bytes, name: str) -> np.ndarray:
    return cv2.cvtColor(decode_image_bgr(content, name), cv2.COLOR_BGR2RGB)


def _from_pil(image: Image.Image) -> np.ndarray:
    if 0 in image.size:
        raise ValueError(f"the image is empty: {image.size[1]}x{image.size[0]} (height x width)")
    try:
        load_pil(image)
    except (OSError, SyntaxError) as error:  # PIL reads a file when its pixels are requested
        raise BadSample(getattr(image, "filename", "") or "image", f"cannot be decoded ({error})") from error
    return upright(_pil_pixels(image), pil_orientation(image))


def _pil_pixels(image: Image.Image) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB, without applying the orientation."""
    if image.mode == "I" and image.format in SIXTEEN_BIT_FORMATS:
        return _from_array(np.asarray(image).astype(np.uint16))
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit, 32-bit and float gray: PIL's own conversion clips
        return _from_array(np.asarray(image))
    return np.array(image.convert("RGB"))


def _from_tensor(image: Tensor) -> np.ndarray:
    if image.is_meta:
        raise ValueError("a tensor on the meta device holds no pixels")
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
    if image.nbytes > LARGE_BYTES and image.shape[2] == 3 and image.flags.c_contiguous:
        view = image.view()
        view.flags.writeable = False
        return view
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
    if image.dtype.kind == "u" and image.dtype.itemsize == 2:  # in either byte order
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
            f"image values range from {low:g} to {high:g}; expected 0..255 or, as floats, 0..1; 16-bit images are "
            "uint16. Undo the normalization of normalized images: the model normalizes them itself"
        )
    if np.issubdtype(image.dtype, np.integer):
        return image.astype(np.uint8)
    return np.rint(image * _float_scale(high)).astype(np.uint8)


def _float_scale(high: float) -> float:
    """Return the factor to 0..255: floats are in 0..1 unless the largest one is above 1."""
    if 1 < high < 2:
        raise ValueError(f"the largest value is {high:g}: neither 0..1 nor 0..255; clip the image or make it uint8")
    return 255.0 if high <= 1 else 1.0
