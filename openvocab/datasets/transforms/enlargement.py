"""A bound for sizes that follow from the shape of an image: of 1 x 16,384 pixels, 512 rows make 4 billion."""

from openvocab.images.image_io import MAX_PIXELS, BadSample
from openvocab.structures import Size

MAX_ENLARGEMENT = 4


def check_enlargement(results: dict, size: Size, remedy: str) -> None:
    """Check the size (height, width) that the image of `results` is about to be resized to.

    Args:
        remedy: what the user can do.

    Raises:
        BadSample: more than `MAX_PIXELS`, and more than four times what the image has.
    """
    height, width = results["img"].shape[:2]
    if size[0] * size[1] > max(MAX_PIXELS, MAX_ENLARGEMENT * height * width):
        path = results.get("img_path", "the image")
        raise BadSample(
            path, f"{width} x {height} pixels (width x height) would become {size[1]} x {size[0]}; {remedy}"
        )
