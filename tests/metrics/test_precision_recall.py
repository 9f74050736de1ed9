"""Precision-recall curves: their means are the average precision, and a summary keeps what can be shown."""

import numpy as np
import pytest
import torch

from openvocab.metrics.detection import CocoAveragePrecision, LvisAveragePrecision
from openvocab.metrics.precision_recall import CurveSummary, summarize_curves
from openvocab.structures import DetectionPrediction, FederatedLabels, Instances, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = Vocabulary.from_names(["cat", "dog", "sofa", "lamp"], unseen=["dog", "lamp"])


def evaluated(metric):
    """Evaluate detections that are wrong in many ways."""
    generator = torch.Generator().manual_seed(0)
    for index in range(12):
        corners = torch.rand(6, 2, generator=generator) * 60
        boxes = torch.cat([corners, corners + 10 + torch.rand(6, 2, generator=generator) * 30], dim=1)
        classes = torch.randint(0, 3, (6,), generator=generator)  # no lamp
        found = boxes + torch.randn(6, 4, generator=generator) * 2
        guesses = torch.where(torch.rand(6, generator=generator) < 0.3, torch.tensor(1), classes)
        scores = torch.rand(6, generator=generator).sort(descending=True).values
        sample = Sample(f"{index}", NAMES, (100, 100), (100, 100), instances=Instances(boxes, classes))
        sample.federated = FederatedLabels(negative=tuple({0, 1, 2} - set(classes.tolist())))
        metric.process({"sample": [sample]}, [DetectionPrediction(found, scores, guesses, NAMES)])
    return metric.evaluate(12)


@pytest.mark.parametrize("metric", [CocoAveragePrecision(), LvisAveragePrecision(fixed=False)])
def test_the_mean_of_a_curve_is_the_average_precision(metric):
    evaluated(metric)
    (summary,) = metric.curves
    (column,) = [name for name in metric.class_rows[0] if name.endswith("AP50")]
    expected = {row["class"]: row[column] for row in metric.class_rows}
    assert set(summary.classes) == {"cat", "dog", "sofa"} and summary.num_classes == 3
    for name, curve in summary.classes.items():
        assert 100 * np.mean(curve) == pytest.approx(expected[name], abs=1e-9)
        assert curve == sorted(curve, reverse=True) and len(curve) == len(summary.recalls) == 101
    assert 100 * np.mean(summary.means["all"]) == pytest.approx(np.nanmean(list(expected.values())), abs=1e-9)
    assert 100 * np.mean(summary.means["base"]) == pytest.approx((expected["cat"] + expected["sofa"]) / 2, abs=1e-9)
    assert 100 * np.mean(summary.means["novel"]) == pytest.approx(expected["dog"], abs=1e-9)


def test_of_many_classes_the_best_and_the_worst_are_kept_and_the_spread_of_all():
    precision = np.random.default_rng(0).uniform(size=(5, 30))
    precision[:, 7] = np.nan
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(30)])
    summary = summarize_curves("x", np.linspace(0, 1, 5), precision, vocabulary)
    ranked = sorted((index for index in range(30) if index != 7), key=lambda index: -precision[:, index].mean())
    assert list(summary.classes) == [f"class {index}" for index in ranked[:5] + ranked[-5:]]
    present = np.delete(precision, 7, axis=1)
    assert np.allclose(summary.spread, np.quantile(present, (0.25, 0.75), axis=1))
    assert list(summary.means) == ["all"] and np.allclose(summary.means["all"], present.mean(axis=1))
    assert CurveSummary.from_plain(summary.to_plain()) == summary


def test_without_objects_there_is_nothing_to_draw():
    summary = summarize_curves("x", np.linspace(0, 1, 5), np.full((5, 2), np.nan), Vocabulary.from_names(["a", "b"]))
    assert summary.num_classes == 0 and summary.means == {} == summary.classes
