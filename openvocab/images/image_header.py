"""Read the size of an image file without decoding its pixels."""

from pathlib import Path

from openvocab.files.regular_files import open_regular
from openvocab.images.image_io import BadSample
from openvocab.images.stated_size import TURNED, stated_orientation, stated_size
from openvocab.structures import Size


def read_image_size(path: str | Path) -> Size:
    """Return (height, width) of the upright image that `read_image` returns; without a limit, since nothing is decoded.

    Raises:
        BadSample: missing, no regular file, empty, or no image by its first bytes.
    """
    try:
        with open_regular(path) as file:
            height, width = stated_size(file)
            turned = stated_orientation(file) in TURNED
    except (OSError, ValueError) as error:
        raise BadSample(path, f"cannot be read as an image ({error})") from error
    if not (height > 0 and width > 0):
        raise BadSample(path, f"its header states {width} x {height} pixels (width x height)")
    return (width, height) if turned else (height, width)
