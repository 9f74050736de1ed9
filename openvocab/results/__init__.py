"""What a user does with a prediction: look at it, filter it, count, and write it in the formats of other programs."""

from typing import TYPE_CHECKING

from openvocab.lazy_names import lazy_names

if TYPE_CHECKING:
    from openvocab.results.base import Result
    from openvocab.results.classification import ClassificationResult
    from openvocab.results.detection import DetectionResult
    from openvocab.results.grounding import GroundingResult
    from openvocab.results.semantic import SemanticResult

__all__ = ["ClassificationResult", "DetectionResult", "GroundingResult", "Result", "SemanticResult"]

_, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".base": ["Result"],
        ".classification": ["ClassificationResult"],
        ".detection": ["DetectionResult"],
        ".grounding": ["GroundingResult"],
        ".semantic": ["SemanticResult"],
    },
)
