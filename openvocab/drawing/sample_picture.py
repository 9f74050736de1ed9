"""Pictures of whole samples: what is labeled in an image, and what a model predicts in it."""

from collections.abc import Sequence

import cv2
import numpy as np

from openvocab.drawing.box_drawing import draw_detection_comparison, draw_detections, draw_instances
from openvocab.drawing.legend import side_by_side, text_size, with_lines_below
from openvocab.drawing.visualization import draw_comparison, draw_label_map, enlarge
from openvocab.structures import (
    ClassificationPrediction,
    DetectionPrediction,
    Prediction,
    Sample,
    SemanticPrediction,
    known,
)

NUM_GUESSES = 3
"""Number of classes whose scores are written below a classified image."""


def draw_prediction(image: np.ndarray, sample: Sample, prediction: Prediction) -> np.ndarray:
    """Draw a prediction next to the ground truth, or over its image without ground truth.

    Args:
        image: (H, W, 3) uint8 RGB, the original.
        sample: labels in the original frame.
        prediction: in the original frame.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: a prediction of another type.
    """
    if isinstance(prediction, DetectionPrediction):
        if sample.instances is None:
            return draw_detections(image, prediction)
        return draw_detection_comparison(image, prediction, sample.instances)
    if isinstance(prediction, ClassificationPrediction):
        return _draw_classified(image, sample, prediction)
    if not isinstance(prediction, SemanticPrediction):
        raise ValueError(f"pictures show label maps, objects or classes, not a {type(prediction).__name__}")
    if sample.label_map is None:
        return draw_label_map(image, prediction)
    return draw_comparison(image, prediction, sample.label_map.numpy())


def draw_targets(views: Sequence[np.ndarray], sample: Sample) -> np.ndarray:
    """Draw what a network is trained on: its input and, on or below it, the targets that the sample has.

    Args:
        views: the views of one image, each (H, W, 3) uint8 RGB.
        sample: targets in the frame of the first view: a label map (H, W), instances, class ids or captions.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    image = views[0]
    panels = [enlarge(view) for view in views]
    if sample.label_map is not None:
        vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
        labels = SemanticPrediction(sample.label_map.cpu().numpy(), vocabulary)
        panels.append(draw_label_map(image, labels, legend=False))
    elif sample.instances is not None:
        vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
        panels = [draw_instances(image, sample.instances, vocabulary), *panels[1:]]
    picture = side_by_side(panels)
    return with_lines_below(picture, _target_lines(sample), text_size(panels[0].shape))


def shrink(picture: np.ndarray, long_side: int) -> np.ndarray:
    """Return a picture (H, W, 3) uint8 whose longer side is at most `long_side` pixels."""
    scale = long_side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def _target_lines(sample: Sample) -> list[str]:
    """Return the targets of a sample that are words, below its id."""
    if sample.class_ids and sample.vocabulary is not None:
        names = [sample.vocabulary.class_names[index] for index in sample.class_ids]
        return [sample.sample_id, *(f"• {name}" for name in names)]
    texts = sample.captions if sample.prompt is None else (*sample.captions, sample.prompt.text)
    return [sample.sample_id, *(f"• {text}" for text in texts)]


def _draw_classified(image: np.ndarray, sample: Sample, prediction: ClassificationPrediction) -> np.ndarray:
    """Draw an image (H, W, 3) above its true classes and the best guesses, marked where they are right."""
    photo = enlarge(shrink(image, 640))
    names = prediction.class_names
    best = prediction.logits.topk(min(NUM_GUESSES, len(names)))
    shares = prediction.probabilities[best.indices]
    truth = [f"truth: {names[index]}" for index in sample.class_ids[:NUM_GUESSES]]
    guesses = [
        f"{'✓' if index in sample.class_ids else '✗'} {100 * share:.1f} %  {names[index]}"
        for index, share in zip(best.indices.tolist(), shares.tolist())
    ]
    return with_lines_below(photo, [*truth, *guesses], text_size(photo.shape))
