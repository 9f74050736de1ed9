"""Pictures of predictions: overlays with contours, names and a legend."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

from openvocab.drawing.class_colors import class_colors
from openvocab.drawing.class_figures import class_areas, percent
from openvocab.drawing.legend import draw_legend, font, short_name, side_by_side, text_size, with_title
from openvocab.structures import SemanticPrediction, ignore_index

LONG_SIDE = 448
"""Smaller pictures are enlarged to about this long side in pixels, by a whole factor, so that names can be read."""
MAP_ALPHA = 0.55
FEW_CLASSES = 24
"""In a vocabulary of up to this many names, a class has the same color in all pictures. In a longer one, colors tell
apart only the classes that are present in a picture."""


def draw_label_map(
    image: np.ndarray, prediction: SemanticPrediction, *, alpha: float = MAP_ALPHA, legend: bool = True
) -> np.ndarray:
    """Draw the predicted classes over a photo, each in its color, with contours and names.

    Args:
        image: (H, W, 3) uint8 RGB, of the prediction's size.
        prediction: label map in the original frame; pixels of `ignore_index` show the photo.
        alpha: opacity of the colors, 0..1.
        legend: whether to add a panel with the names of the classes present and their percentages of the area.

    Returns:
        (H', W', 3) uint8 RGB; tiny images are enlarged.

    Raises:
        ValueError: image and label map differ in size, or `alpha` lies outside 0..1.
    """
    names, label_map = prediction.class_names, prediction.label_map
    check_image(image, alpha)
    _check_sizes(image, [label_map])
    areas = class_areas(label_map, len(names))
    colors = colors_of_present(names, areas)
    overlay = _overlay(image, label_map, names, colors, alpha)
    if not legend:
        return overlay
    rows = [(names[label], colors[label], [percent(area)]) for label, area in areas.items()]
    return side_by_side([overlay, draw_legend(rows, [""], text_size(overlay.shape), len(overlay))])


def draw_comparison(
    image: np.ndarray, prediction: SemanticPrediction, ground_truth: np.ndarray, *, alpha: float = 0.75
) -> np.ndarray:
    """Draw photo, ground truth and prediction side by side, with one legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: label map in the original frame.
        ground_truth: (H, W) integers of the same vocabulary; pixels of `ignore_index` show the photo.
        alpha: opacity of the colors, 0..1.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: sizes differ, or `alpha` lies outside 0..1.
    """
    names, label_maps = prediction.class_names, (ground_truth, prediction.label_map)
    check_image(image, alpha)
    _check_sizes(image, label_maps)
    true, predicted = (class_areas(label_map, len(names)) for label_map in label_maps)
    present = sorted({*true, *predicted}, key=lambda label: -true.get(label, 0) - predicted.get(label, 0))
    colors = colors_of_present(names, present)
    photo = enlarge(image)
    text = text_size(photo.shape)
    pictures = [photo, *(_overlay(image, label_map, names, colors, alpha) for label_map in label_maps)]
    titled = [with_title(*pair, text) for pair in zip(pictures, ("photo", "ground truth", "prediction"))]
    rows = [
        (names[label], colors[label], [percent(areas.get(label, 0)) for areas in (true, predicted)])
        for label in present
    ]
    return side_by_side([*titled, draw_legend(rows, ["truth", "predicted"], text, len(titled[0]))])


def check_image(image: np.ndarray, alpha: float) -> None:
    """Check the image and the opacity that every picture needs.

    Raises:
        ValueError: an image that is not (H, W, 3) uint8, or an opacity outside 0..1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an image (H, W, 3) uint8, got {image.dtype} {image.shape}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected 0..1, got {alpha}")


def _check_sizes(image: np.ndarray, label_maps: Iterable[np.ndarray]) -> None:
    """Check that label maps (H, W) have the size of the image (H, W, 3)."""
    for label_map in label_maps:
        if image.shape[:2] != label_map.shape:
            raise ValueError(f"the image is {image.shape[:2]}, its label map {label_map.shape}; they must agree")


def colors_of_present(names: Sequence[str], present: Iterable[int]) -> dict[int, np.ndarray]:
    """Return {class: color (3,) uint8 RGB} of the classes present, and of all others of a short vocabulary."""
    labels = range(len(names)) if len(names) <= FEW_CLASSES else sorted(present)
    return dict(zip(labels, class_colors([names[label] for label in labels])))


def enlargement(size: Sequence[int], long_side: int = LONG_SIDE) -> int:
    """Return the whole factor by which the longer side of (height, width) becomes about `long_side`."""
    return max(1, round(long_side / max(size[:2])))


def enlarge(image: np.ndarray, long_side: int = LONG_SIDE) -> np.ndarray:
    """Return a picture (H, W, 3) enlarged by its `enlargement`; one that is not small is returned as it is."""
    factor = enlargement(image.shape, long_side)
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else image


def _overlay(
    image: np.ndarray, label_map: np.ndarray, names: Sequence[str], colors: dict[int, np.ndarray], alpha: float
) -> np.ndarray:
    """Blend the colors of a label map (H, W) into the photo (H, W, 3), draw class borders and name large areas."""
    factor = enlargement(image.shape)
    # Repeated, not interpolated: between two classes there is no third.
    labels = label_map.repeat(factor, 0).repeat(factor, 1)
    photo = enlarge(image).astype(np.float32)
    gray = photo.mean(axis=2, keepdims=True)
    table = np.zeros((len(names) + 1, 3), np.float32)  # the last row is for labels that are not classes
    for label, color in colors.items():
        table[label] = color
    tint = table[np.minimum(labels, len(names), dtype=np.intp)]  # (H, W, 3)
    # most of the photo's own colors is removed: they would be mistaken for those of classes
    mixed = (1 - alpha) * (0.35 * photo + 0.65 * gray) + alpha * tint  # (H, W, 3)
    mixed = np.where((labels == ignore_index(len(names)))[..., None], photo, mixed)
    border = _borders(labels, max(1, round(max(labels.shape) / 400)))
    mixed[border] = 0.2 * mixed[border] + 0.8 * 255
    return _with_names(mixed.clip(0, 255).astype(np.uint8), labels, names, colors)


def _borders(labels: np.ndarray, width: int) -> np.ndarray:
    """Return (H, W) bool: which pixels of a label map (H, W) are within `width` pixels of another class."""
    edge = np.zeros(labels.shape, dtype=np.uint8)
    # Differences to the left and upper neighbor find every border once; the dilation gives it its width.
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return cv2.dilate(edge, np.ones((width, width), np.uint8)).astype(bool)


def _with_names(
    picture: np.ndarray, labels: np.ndarray, names: Sequence[str], colors: dict[int, np.ndarray]
) -> np.ndarray:
    """Write the name of each class into the widest part of its area, if it fits."""
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    size = max(11, round(0.8 * text_size(labels.shape)))
    for label in np.unique(labels):
        if label not in colors:  # not labeled
            continue
        name = short_name(names[label])
        width = font(size).getlength(name)
        center = _text_center(labels == label, width + size, 1.5 * size)
        if center is not None:
            draw.text(
                center, name, "white", font(size), anchor="mm", stroke_width=max(1, size // 8), stroke_fill=(24, 24, 28)
            )
    return np.asarray(canvas)


def _text_center(mask: np.ndarray, width: float, height: float) -> tuple[int, int] | None:
    """Return the center (x, y) of the box of `width` x `height` deepest inside `mask` (H, W); None if none fits."""
    shape = np.ones((max(1, round(height)), max(1, round(width))), np.uint8)
    # A pixel survives the erosion if the box around it lies in the mask; the padding keeps it off the image's edge.
    fits = cv2.erode(np.pad(mask.astype(np.uint8), 1), shape, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    if not fits.any():
        return None
    depth = cv2.distanceTransform(fits, cv2.DIST_L2, 3)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    # From the padded frame back to that of the mask.
    return int(x) - 1, int(y) - 1
