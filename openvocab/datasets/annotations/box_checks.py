"""Clip the boxes of an annotation file and find those that cannot be used."""

import numpy as np

REASONS = {
    "not_finite": "with coordinates that are not finite",
    "no_size": "of zero or negative size",
    "outside": "entirely outside their image",
    "no_mask": "without a mask",
    "empty_mask": "whose mask covers no pixel",
    "mask_outside_box": "whose mask lies outside of them",
}
"""Why a box cannot be used, as logs state it."""
FRACTION_TOLERANCE = 0.1
"""By which boxes in fractions of the image may extend beyond it."""


def check_boxes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Clip boxes to their images and flag invalid ones.

    Args:
        boxes: (M, 4) float64 x1 y1 x2 y2 in pixels.
        sizes: (M, 2) height and width of each box's image.

    Returns:
        (M, 4) float32, clipped; and for each reason, a key of `REASONS`, (M,) bool flags of the invalid boxes. A box
        has at most one reason.
    """
    not_finite = ~np.isfinite(boxes).all(1)
    boxes = np.where(not_finite[:, None], 0, boxes)  # NaN would warn in every comparison below
    no_size = ~not_finite & ~_has_size(boxes)
    height, width = sizes.T
    limits = np.stack([width, height, width, height], axis=1)  # (M, 4)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    outside = ~not_finite & ~no_size & ~_has_size(clipped)  # checked in float32, which is what is stored
    return clipped, {"not_finite": not_finite, "no_size": no_size, "outside": outside}


def check_are_pixels(boxes: np.ndarray, source: str) -> None:
    """Check that boxes (M, 4) x1 y1 x2 y2 are in pixels.

    Raises:
        ValueError: most boxes that have a size lie within the first pixel, as fractions of the image do.
    """
    sized = boxes[np.isfinite(boxes).all(1) & _has_size(boxes)]
    fractions = (np.abs(sized - 0.5) <= 0.5 + FRACTION_TOLERANCE).all(1)
    if 2 * fractions.sum() > len(sized):
        raise ValueError(
            f"{source}: {int(fractions.sum())} of {len(sized)} boxes lie within 0..1, as fractions of the image do; "
            "expected pixels: multiply them by width and height"
        )


def _has_size(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
