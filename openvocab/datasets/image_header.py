"""The size of an image file without decoding its pixels."""

from pathlib import Path

from PIL import Image

from openvocab.datasets.image_io import BadSample
from openvocab.structures import Size

EXIF_ORIENTATION = 0x0112
FIRST_TURNED = 5  # orientations 5 to 8 exchange width and height


def read_image_size(path: str | Path) -> Size:
    """Return (height, width) as `read_image` gives them, after EXIF rotation.

    Raises:
        BadSample: missing, or no image by its first bytes.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(EXIF_ORIENTATION, 1) >= FIRST_TURNED
    except (OSError, SyntaxError, ValueError) as error:
        raise BadSample(path, f"cannot be read as an image ({error})") from error
    return (width, height) if turned else (height, width)
