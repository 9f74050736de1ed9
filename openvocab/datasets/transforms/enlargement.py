"""A bound for sizes that depend on an image's shape: a short side of 512 makes 1 x 16,384 pixels 4 billion."""

from openvocab.datasets.transforms.results import Results
from openvocab.images.image_io import MAX_PIXELS, BadSample
from openvocab.structures import Size

MAX_ENLARGEMENT = 4


def check_enlargement(results: Results, size: Size, remedy: str) -> None:
    """Check the size (height, width) that the image of `results` is about to be resized to.

    Args:
        results: results with `img`, (H, W, 3).
        size: (height, width).
        remedy: what the user can do, for the message.

    Raises:
        BadSample: `size` is more than `MAX_PIXELS`, and more than four times the pixels of the image.
    """
    height, width = results["img"].shape[:2]
    if size[0] * size[1] > max(MAX_PIXELS, MAX_ENLARGEMENT * height * width):
        path = results.get("img_path", "the image")
        raise BadSample(
            path, f"{width} x {height} pixels (width x height) would become {size[1]} x {size[0]}; {remedy}"
        )
