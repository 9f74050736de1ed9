"""The classes that are present in a prediction, with their areas or numbers of objects."""

from collections.abc import Sequence

import numpy as np

from openvocab.structures import DetectionPrediction, SemanticPrediction, ignore_index

MOST_IN_A_LINE = 10
"""Classes that one line describes; it states how many more there are."""


def class_areas(label_map: np.ndarray, num_classes: int) -> dict[int, float]:
    """Return the fraction of the labeled area of every class present in a label map (H, W), the largest first."""
    counts = np.bincount(label_map[label_map != ignore_index(num_classes)].ravel(), minlength=num_classes)
    total = max(1, int(counts.sum()))
    return {int(label): counts[label] / total for label in np.argsort(-counts, kind="stable") if counts[label]}


def describe_areas(prediction: SemanticPrediction) -> str:
    """Return the classes present in one line: `sofa 61.5 %, cat 38.5 %`."""
    names = prediction.class_names
    areas = class_areas(prediction.label_map, len(names))
    return in_one_line([f"{names[label]} {percent(area)}" for label, area in areas.items()])


def percent(fraction: float) -> str:
    """Return a fraction as a percentage for a table: a dash for zero."""
    return f"{100 * fraction:.1f} %" if fraction else "–"


def class_counts(objects: DetectionPrediction) -> dict[int, tuple[int, float]]:
    """Return {class: (number of objects, best score)} of every class present, the most frequent class first."""
    counts: dict[int, tuple[int, float]] = {}
    for label in objects.classes.unique().tolist():
        scores = objects.scores[objects.classes == label]
        counts[label] = len(scores), scores.max().item()
    return dict(sorted(counts.items(), key=lambda pair: pair[1], reverse=True))


def describe_objects(objects: DetectionPrediction) -> str:
    """Return the classes present in one line: `3 red circle (best 0.91), 1 blue star (0.55)`."""
    names = objects.vocabulary.class_names
    return in_one_line([
        f"{count} {names[label]} ({'best ' if count > 1 else ''}{best:.2f})"
        for label, (count, best) in class_counts(objects).items()
    ])  # fmt: skip


def in_one_line(classes: Sequence[str], most: int = MOST_IN_A_LINE) -> str:
    """Return descriptions of classes in one line: the first ones, and how many more there are."""
    return ", ".join([*classes[:most], *([f"and {len(classes) - most} more"] if len(classes) > most else [])])
