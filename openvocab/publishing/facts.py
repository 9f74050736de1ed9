"""What a checkpoint, its config and a result file state about a model, for its card."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from openvocab.files.text_files import read_json
from openvocab.heads.base import Head
from openvocab.model import OpenVocabModel
from openvocab.structures import ClassificationPrediction, DetectionPrediction, SemanticPrediction

TASKS = {
    SemanticPrediction: ("semantic segmentation", "image-segmentation"),
    DetectionPrediction: ("detection", "zero-shot-object-detection"),
    ClassificationPrediction: ("classification", "zero-shot-image-classification"),
}
"""{what a head predicts: the task in our words, and in those of the hub}."""


@dataclass(frozen=True)
class Scores:
    """Numbers, and how they were measured."""

    source: str
    numbers: Mapping[str, float]
    units: Mapping[str, str] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)


def task_of(head: Head) -> tuple[str, str]:
    """Return the task of a head in our words and in those of the hub, by the type of its predictions."""
    predicted = get_args(get_type_hints(type(head).postprocess)["return"])
    return TASKS[predicted[0]]


def parts_of(model: OpenVocabModel) -> dict[str, str]:
    """Return the class of each part, and the network that it wraps, if it has a name."""
    parts = {"backbone": model.backbone, "text encoder": model.text_encoder, "head": model.head}
    return {name: type(part).__name__ for name, part in parts.items()}


def validation_scores(content: Mapping[str, Any], units: Mapping[str, str]) -> list[Scores]:
    """Return the best score that a checkpoint of a training run holds, by the validation of that run; [] without one.

    Args:
        content: of the checkpoint.
        units: of metrics, as a result file states them; a checkpoint does not.
    """
    metric, score = content.get("best_metric"), content.get("best_score")
    if not isinstance(metric, str) or not isinstance(score, (int, float)) or not math.isfinite(score):
        return []
    return [Scores("the validation during training, of its best checkpoint", {metric: float(score)}, units)]


def result_scores(path: Path) -> Scores:
    """Return the scores in a result file of `openvocab test --out`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a result file.
    """
    content = read_json(path)
    protocol = content.get("protocol") if isinstance(content, dict) else None
    if not isinstance(protocol, dict):
        raise ValueError(f"{path} is no result file of `openvocab test --out`: it has no protocol")
    numbers = {key: value for key, value in content.items() if isinstance(value, (int, float))}
    units = protocol.get("units")
    stated = {key: value for key, value in protocol.items() if key != "units"}
    return Scores(path.name, numbers, units if isinstance(units, dict) else {}, stated)


def result_files(checkpoint: Path) -> list[Path]:
    """Return the result files next to a checkpoint that are newer: an older one measures other weights."""
    written = checkpoint.stat().st_mtime
    return [
        path
        for path in sorted(checkpoint.parent.glob("*.json"))
        if path.stat().st_mtime >= written and _is_result(path)
    ]


def _is_result(path: Path) -> bool:
    try:
        result_scores(path)
    except (OSError, ValueError):
        return False
    return True
