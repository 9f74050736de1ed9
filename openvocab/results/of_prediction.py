"""From the prediction of a head to the result that a user gets."""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from openvocab.logit_map import LogitMap
from openvocab.results.base import Result
from openvocab.structures import (
    ClassificationPrediction,
    DetectionPrediction,
    Prediction,
    SemanticPrediction,
    Size,
)
from openvocab.vocabulary.prompt import Prompt


def result_of(
    prediction: Prediction,
    source: Any,
    size: Size,
    score_map: LogitMap | None = None,
    presence: Callable[[], Mapping[str, float]] | None = None,
    prompt: Prompt | None = None,
) -> Result:
    """Return a prediction with its image, as a result.

    Args:
        prediction: in the frame of the image.
        source: the image as it was given.
        size: (height, width) of the image.
        score_map: the score of each name at each pixel, for label maps.
        presence: computes how likely the image shows each name, for label maps.
        prompt: the caption whose phrases the objects belong to, if it was one.

    Raises:
        TypeError: a prediction of another kind.
    """
    # imported for the task at hand: masks of objects need pycocotools
    values = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
    if isinstance(prediction, SemanticPrediction):
        from openvocab.results.semantic import SemanticResult

        return SemanticResult(**values, source=source, score_map=score_map, presence_of=presence)
    if isinstance(prediction, DetectionPrediction):
        if prompt is not None:
            from openvocab.results.grounding import GroundingResult

            return GroundingResult(**values, source=source, image_size=size, prompt=prompt)
        from openvocab.results.detection import DetectionResult

        return DetectionResult(**values, source=source, image_size=size)
    if isinstance(prediction, ClassificationPrediction):
        from openvocab.results.classification import ClassificationResult

        return ClassificationResult(**values, source=source, image_size=size)
    raise TypeError(f"expected a prediction, got {type(prediction).__name__}")
