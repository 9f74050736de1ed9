"""Pictures of detected objects: boxes, masks, names and scores, and a legend of the classes."""

from collections.abc import Iterable

import numpy as np
import torch
from pycocotools import mask as rle

from openvocab.drawing.class_figures import class_counts
from openvocab.drawing.legend import draw_long_legend, side_by_side, text_size, with_title
from openvocab.drawing.object_overlay import ObjectStyle, draw_objects
from openvocab.drawing.visualization import LONG_SIDE, check_image, colors_of_present, enlarge, enlargement
from openvocab.structures import DetectionPrediction, Instances
from openvocab.vocabulary.vocabulary import Vocabulary

MIN_SCORE, MAX_OBJECTS, MASK_ALPHA = 0.3, 100, 0.25
ROOMY = 15
"""Number of objects up to which a picture is as large as that of a label map; with more it is enlarged further."""


def draw_detections(
    image: np.ndarray,
    prediction: DetectionPrediction,
    *,
    min_score: float = MIN_SCORE,
    max_objects: int = MAX_OBJECTS,
    alpha: float = MASK_ALPHA,
    legend: bool = True,
) -> np.ndarray:
    """Draw the best objects of a photo in the colors of their classes, with names and scores.

    Without room for name and score, the tag of an object shows the name alone, or else the number of the class in the
    legend, or else the object has no tag.

    Args:
        image: (H, W, 3) uint8 RGB, of the prediction's size.
        prediction: objects in the original frame.
        min_score: objects with a lower score are not drawn.
        max_objects: maximum number of objects; the best ones are drawn.
        alpha: opacity of the masks, 0..1.
        legend: whether to add a panel with the classes present, their numbers of objects and their best scores.

    Returns:
        (H', W', 3) uint8 RGB; small images are enlarged by a whole number.

    Raises:
        ValueError: an image or an `alpha` that cannot be drawn, a box that is not finite, a mask of the wrong size.
    """
    check_image(image, alpha)
    objects = best_objects(prediction, min_score, max_objects)
    _check_objects(objects, image)
    counts = class_counts(objects)
    style = _style(prediction.vocabulary, counts, alpha, legend=legend)
    overlay, numbered = _overlay(image, objects, style, _long_side(len(objects.boxes)))
    if not legend:
        return overlay
    figures = {label: [str(count), f"{best:.2f}"] for label, (count, best) in counts.items()}
    return side_by_side(
        [overlay, *_legend(prediction.vocabulary, figures, ["objects", "best"], style, numbered, overlay)]
    )


def draw_detection_comparison(
    image: np.ndarray,
    prediction: DetectionPrediction,
    ground_truth: Instances,
    *,
    min_score: float = MIN_SCORE,
    max_objects: int = MAX_OBJECTS,
    alpha: float = MASK_ALPHA,
) -> np.ndarray:
    """Draw photo, labeled objects and detected objects side by side, with one legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: objects in the original frame.
        ground_truth: objects of the same vocabulary in the same frame; all are drawn, each crowd as one object.
        min_score, max_objects, alpha: see `draw_detections`.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: see `draw_detections`.
    """
    check_image(image, alpha)
    labeled = _as_prediction(ground_truth, prediction.vocabulary)
    detected = best_objects(prediction, min_score, max_objects)
    counts = [class_counts(objects) for objects in (labeled, detected)]
    present = dict.fromkeys([*counts[0], *counts[1]])
    long_side = _long_side(max(len(labeled.boxes), len(detected.boxes)))
    photo = enlarge(image, long_side)
    panels, numbered = [photo], False
    for objects, with_scores in ((labeled, False), (detected, True)):
        _check_objects(objects, image)
        style = _style(prediction.vocabulary, present, alpha, with_scores=with_scores)
        overlay, has_numbers = _overlay(image, objects, style, long_side)
        panels.append(overlay)
        numbered |= has_numbers
    text = text_size(photo.shape)
    titled = [with_title(*pair, text) for pair in zip(panels, ("photo", "ground truth", "prediction"))]
    figures = {
        label: [str(of_panel[label][0]) if label in of_panel else "–" for of_panel in counts] for label in present
    }
    return side_by_side(
        [*titled, *_legend(prediction.vocabulary, figures, ["truth", "found"], style, numbered, titled[0])]
    )


def draw_instances(
    image: np.ndarray, instances: Instances, vocabulary: Vocabulary, *, alpha: float = MASK_ALPHA
) -> np.ndarray:
    """Draw labeled objects in the colors of their classes, with names, without a legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: objects in the same frame.
        vocabulary: their classes.
        alpha: opacity of the masks, 0..1.

    Returns:
        (H', W', 3) uint8 RGB; small images are enlarged by a whole number.

    Raises:
        ValueError: see `draw_detections`.
    """
    check_image(image, alpha)
    objects = _as_prediction(instances, vocabulary)
    _check_objects(objects, image)
    style = _style(vocabulary, class_counts(objects), alpha, legend=False, with_scores=False)
    return _overlay(image, objects, style, LONG_SIDE)[0]


def best_objects(prediction: DetectionPrediction, min_score: float, max_objects: int) -> DetectionPrediction:
    """Return the objects with a score of at least `min_score`, at most `max_objects` of them, best first."""
    order = prediction.scores.argsort(descending=True, stable=True)
    # Filtered after sorting, so that `order` indexes the prediction's rows throughout.
    order = order[prediction.scores[order] >= min_score][:max_objects]
    masks = None if prediction.masks is None else [prediction.masks[index] for index in order.tolist()]
    parts = prediction.boxes[order], prediction.scores[order], prediction.classes[order]
    return DetectionPrediction(*parts, prediction.vocabulary, masks, prediction.sample_id)


def _as_prediction(instances: Instances, vocabulary: Vocabulary) -> DetectionPrediction:
    """Return labeled objects as detections with a score of 1."""
    masks = None
    if instances.masks is not None:
        # pycocotools reads masks column by column.
        masks = [rle.encode(np.asfortranarray(mask.cpu().numpy(), dtype=np.uint8)) for mask in instances.masks]
    scores = torch.ones(len(instances.boxes))
    return DetectionPrediction(instances.boxes.cpu(), scores, instances.classes.cpu(), vocabulary, masks)


def _check_objects(objects: DetectionPrediction, image: np.ndarray) -> None:
    """Check that boxes and masks can be drawn into an image (H, W, 3)."""
    if not objects.boxes.isfinite().all():
        raise ValueError("a box is NaN or infinite and cannot be drawn")
    for mask in objects.masks or ():
        if tuple(mask["size"]) != image.shape[:2]:
            raise ValueError(f"the image is {image.shape[:2]}, a mask {tuple(mask['size'])}; they must agree")


def _style(
    vocabulary: Vocabulary, present: Iterable[int], alpha: float, *, legend: bool = True, with_scores: bool = True
) -> ObjectStyle:
    """Return the style of a picture with the classes `present`, which are numbered in that order for the legend."""
    present = list(present)
    numbers = {label: number for number, label in enumerate(present, start=1)} if legend else {}
    return ObjectStyle(colors_of_present(vocabulary.class_names, present), numbers, alpha, with_scores)


def _long_side(count: int) -> int:
    """Return the approximate length, in pixels, of the longer side of a picture of `count` objects."""
    # The square root: the area grows with the number of objects.
    return round(LONG_SIDE * max(1, count / ROOMY) ** 0.5)


def _overlay(
    image: np.ndarray, objects: DetectionPrediction, style: ObjectStyle, long_side: int
) -> tuple[np.ndarray, bool]:
    """Enlarge the photo (H, W, 3) and draw the objects into it; see `draw_objects` for the result."""
    factor = enlargement(image.shape, long_side)
    parts = objects.boxes * factor, objects.scores, objects.classes
    enlarged = DetectionPrediction(*parts, objects.vocabulary, objects.masks)
    return draw_objects(enlarge(image, long_side), enlarged, style)


def _legend(
    vocabulary: Vocabulary,
    figures: dict[int, list[str]],
    titles: list[str],
    style: ObjectStyle,
    numbered: bool,
    picture: np.ndarray,
) -> list[np.ndarray]:
    """Return the columns of the legend next to a picture; with the numbers of the classes if tags refer to them."""
    rows = []
    for label, cells in figures.items():
        name = vocabulary.class_names[label]
        rows.append((f"{style.numbers[label]}. {name}" if numbered else name, style.colors[label], cells))
    return draw_long_legend(rows, titles, picture.shape)
