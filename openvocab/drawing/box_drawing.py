"""Pictures of detected objects: boxes, masks, names and scores, and a legend of the classes."""

from collections.abc import Iterable

import numpy as np
import torch
from pycocotools import mask as rle

from openvocab.drawing.legend import beside, draw_long_legend, text_size, with_title
from openvocab.drawing.object_overlay import ObjectStyle, draw_objects
from openvocab.drawing.visualization import LONG_SIDE, check_image, enlarge, enlargement, shown_colors
from openvocab.structures import DetectionPrediction, Instances
from openvocab.vocabulary.vocabulary import Vocabulary

MIN_SCORE, MAX_OBJECTS, MASK_ALPHA = 0.3, 100, 0.25
ROOMY = 15
"""Up to so many objects, a picture is as large as that of a label map; with more it is enlarged further."""


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

    Where there is no room, a tag leaves out the score, then it is the number of the class in the legend, and then the
    object has only its outline.

    Args:
        image: (H, W, 3) uint8 RGB, of the prediction's size.
        prediction: objects in the original frame.
        min_score: objects below it are left out.
        max_objects: only so many are drawn, the best ones.
        alpha: opacity of the masks, 0..1.
        legend: whether to add a panel with the classes present, how many objects they have and their best score.

    Returns:
        (H', W', 3) uint8 RGB; small images are enlarged by a whole number.

    Raises:
        ValueError: an image or an `alpha` that cannot be drawn, a box that is not finite, a mask of another size.
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
    return beside([overlay, *_legend(prediction.vocabulary, figures, ["objects", "best"], style, numbered, overlay)])


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
        ground_truth: objects of the same vocabulary in the same frame; all are drawn, a crowd as one object.
        min_score, max_objects, alpha: see `draw_detections`.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: see `draw_detections`.
    """
    check_image(image, alpha)
    labeled = _as_prediction(ground_truth, prediction.vocabulary)
    found = best_objects(prediction, min_score, max_objects)
    counts = [class_counts(part) for part in (labeled, found)]
    present = dict.fromkeys([*counts[0], *counts[1]])
    long_side = _long_side(max(len(labeled.boxes), len(found.boxes)))
    photo = enlarge(image, long_side)
    panels, numbered = [photo], False
    for part, with_scores in ((labeled, False), (found, True)):
        _check_objects(part, image)
        style = _style(prediction.vocabulary, present, alpha, with_scores=with_scores)
        overlay, has_numbers = _overlay(image, part, style, long_side)
        panels.append(overlay)
        numbered |= has_numbers
    text = text_size(photo.shape)
    titled = [with_title(*pair, text) for pair in zip(panels, ("photo", "ground truth", "prediction"))]
    figures = {label: [str(part[label][0]) if label in part else "–" for part in counts] for label in present}
    return beside([*titled, *_legend(prediction.vocabulary, figures, ["truth", "found"], style, numbered, titled[0])])


def best_objects(prediction: DetectionPrediction, min_score: float, max_objects: int) -> DetectionPrediction:
    """Keep the objects of at least `min_score`, at most `max_objects` of them, best first."""
    order = prediction.scores.argsort(descending=True, stable=True)
    order = order[prediction.scores[order] >= min_score][:max_objects]
    masks = None if prediction.masks is None else [prediction.masks[index] for index in order.tolist()]
    parts = prediction.boxes[order], prediction.scores[order], prediction.classes[order]
    return DetectionPrediction(*parts, prediction.vocabulary, masks, prediction.sample_id)


def class_counts(objects: DetectionPrediction) -> dict[int, tuple[int, float]]:
    """Return the number of objects and the best score of every class present, the most frequent class first."""
    counts = {}
    for label in objects.classes.unique().tolist():
        scores = objects.scores[objects.classes == label]
        counts[label] = len(scores), scores.max().item()
    return dict(sorted(counts.items(), key=lambda pair: pair[1], reverse=True))


def describe_objects(objects: DetectionPrediction) -> str:
    """Return the classes present in one line: `3 red circle (best 0.91), 1 blue star (0.55)`."""
    names = objects.vocabulary.class_names
    return ", ".join(
        f"{count} {names[label]} ({'best ' if count > 1 else ''}{best:.2f})"
        for label, (count, best) in class_counts(objects).items()
    )


def _as_prediction(instances: Instances, vocabulary: Vocabulary) -> DetectionPrediction:
    """Return labeled objects as certain detections."""
    masks = None
    if instances.masks is not None:
        masks = [rle.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8)) for mask in instances.masks]
    scores = torch.ones(len(instances.boxes))
    return DetectionPrediction(instances.boxes, scores, instances.classes, vocabulary, masks)


def _check_objects(objects: DetectionPrediction, image: np.ndarray) -> None:
    if not objects.boxes.isfinite().all():
        raise ValueError("a box is NaN or infinite and cannot be drawn")
    for mask in objects.masks or ():
        if tuple(mask["size"]) != image.shape[:2]:
            raise ValueError(f"the image is {image.shape[:2]}, a mask {tuple(mask['size'])}; they must agree")


def _style(
    vocabulary: Vocabulary, present: Iterable[int], alpha: float, *, legend: bool = True, with_scores: bool = True
) -> ObjectStyle:
    present = list(present)
    numbers = {label: number for number, label in enumerate(present, start=1)} if legend else {}
    return ObjectStyle(shown_colors(vocabulary.class_names, present), numbers, alpha, with_scores)


def _long_side(count: int) -> int:
    """Return the length that the longer side of a picture of `count` objects should have, about."""
    return round(LONG_SIDE * max(1, count / ROOMY) ** 0.5)


def _overlay(
    image: np.ndarray, objects: DetectionPrediction, style: ObjectStyle, long_side: int
) -> tuple[np.ndarray, bool]:
    """Enlarge the photo and draw the objects into it; see `draw_objects`."""
    factor = enlargement(image.shape, long_side)
    parts = objects.boxes * factor, objects.scores, objects.classes
    enlarged = DetectionPrediction(*parts, objects.vocabulary, objects.masks)
    return draw_objects(enlarge(image, long_side), enlarged, style)


def _legend(
    vocabulary: Vocabulary,
    figures: dict[int, list[str]],
    heads: list[str],
    style: ObjectStyle,
    numbered: bool,
    picture: np.ndarray,
) -> list[np.ndarray]:
    rows = []
    for label, cells in figures.items():
        name = vocabulary.class_names[label]
        rows.append((f"{style.numbers[label]}. {name}" if numbered else name, style.colors[label], cells))
    return draw_long_legend(rows, heads, picture.shape)
