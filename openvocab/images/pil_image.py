"""Decode images with Pillow and rotate them by the orientation in their EXIF alone, as OpenCV does."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from openvocab.images.stated_size import exif_orientation


def load_pil(image: Image.Image) -> None:
    """Decode the pixels of an image that Pillow has opened.

    Raises:
        Exception: of any type, for a malformed file.
    """
    with _without_hints(image):
        image.load()


def pil_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation of a loaded image, 1 to 8.

    Pillow's own reader also reads XMP, and fails for malformed EXIF. For an AVIF Pillow writes the orientation of its
    boxes into the EXIF that it returns.
    """
    exif = image.info.get("exif")
    return exif_orientation(BytesIO(exif)) if isinstance(exif, bytes) else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels (H, W) or (H, W, C) with an EXIF orientation, 1 to 8, as an upright array (H', W') or (H', W', C).

    Pixels that are upright already are not copied.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)  # (W, H, ...)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


@contextmanager
def _without_hints(image: Image.Image) -> Iterator[None]:
    """Hide from Pillow, while it decodes, what makes it rotate a TIFF wrongly.

    XMP makes it rotate a TIFF without an orientation; one that it maps into memory, by its name, it rotates twice.
    """
    file_image: Any = image  # an image from a file has a name, which the base class does not declare
    xmp, name = image.info.pop("xmp", None), getattr(image, "filename", None)
    if name is not None:
        file_image.filename = ""
    try:
        yield
    finally:
        if name is not None:
            file_image.filename = name
        if xmp is not None:
            image.info["xmp"] = xmp
