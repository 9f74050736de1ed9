"""Images that Pillow decodes, upright by the orientation in their EXIF and by nothing else, as OpenCV's are."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

import numpy as np
from PIL import Image

from openvocab.images.stated_size import exif_orientation


def load_pil(image: Image.Image) -> None:
    """Decode the pixels of an image that Pillow has opened.

    Raises:
        Exception: of any type, for a malformed file.
    """
    with _hidden(image):
        image.load()


def pil_orientation(image: Image.Image) -> int:
    """Return how the pixels of a loaded image lie, 1 to 8.

    Pillow's own reader takes XMP too, and fails where EXIF is odd. The orientation that an AVIF states outside EXIF is
    among what Pillow gives as EXIF.
    """
    exif = image.info.get("exif")
    return exif_orientation(BytesIO(exif)) if isinstance(exif, bytes) else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return pixels (H, W) or (H, W, C) of an EXIF orientation, 1 to 8, as they are to be seen; not a copy where they
    are so already.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)  # (W, H, ...)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return np.ascontiguousarray(pixels[::rows, ::columns])


@contextmanager
def _hidden(image: Image.Image) -> Iterator[None]:
    """Hide from Pillow, while it decodes, what makes it turn a TIFF otherwise than its file says.

    By XMP it turns one whose file has no orientation; one that it maps into memory, by its name, it turns twice.
    """
    xmp, name = image.info.pop("xmp", None), getattr(image, "filename", None)
    if name is not None:
        image.filename = ""
    try:
        yield
    finally:
        if name is not None:
            image.filename = name
        if xmp is not None:
            image.info["xmp"] = xmp
