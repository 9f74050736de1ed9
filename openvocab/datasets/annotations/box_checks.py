"""Which boxes of an annotation file can be used."""

import numpy as np

REASONS = {
    "not_finite": "with coordinates that are not finite",
    "no_size": "of zero or negative size",
    "outside": "wholly outside their image",
    "no_mask": "without a mask",
    "empty_mask": "whose mask covers no pixel",
    "mask_beside": "whose mask lies beside them",
}
SHARE_TOLERANCE = 0.1
"""By which boxes given as shares may stick out of their image."""


def check_boxes(boxes: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Clip boxes to their images and find those that are none.

    Args:
        boxes: (M, 4) float64 x1 y1 x2 y2 in pixels.
        sizes: (M, 2) height and width of the image of each.

    Returns:
        (M, 4) float32, clipped; and (M,) bool flags of the unusable ones by reason, a key of `REASONS`. A box has one
        reason at most.
    """
    not_finite = ~np.isfinite(boxes).all(1)
    boxes = np.where(not_finite[:, None], 0, boxes)
    no_size = ~not_finite & ~_has_size(boxes)
    height, width = sizes.T
    limits = np.stack([width, height, width, height], axis=1)  # (M, 4)
    clipped = np.clip(boxes, 0, limits).astype(np.float32)
    outside = ~not_finite & ~no_size & ~_has_size(clipped)  # in float32: what is stored must have a size
    return clipped, {"not_finite": not_finite, "no_size": no_size, "outside": outside}


def check_are_pixels(boxes: np.ndarray, source: str) -> None:
    """Check that boxes (M, 4) x1 y1 x2 y2 are in pixels, by where most of those that have a size lie.

    Raises:
        ValueError: within the first pixel, as shares of the image do.
    """
    sized = boxes[np.isfinite(boxes).all(1) & _has_size(boxes)]
    shares = (np.abs(sized - 0.5) <= 0.5 + SHARE_TOLERANCE).all(1)
    if 2 * shares.sum() > len(sized):
        raise ValueError(
            f"{source}: {int(shares.sum())} of {len(sized)} boxes lie within 0..1, as shares of the image do; expected "
            "pixels: multiply them by width and height"
        )


def _has_size(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
