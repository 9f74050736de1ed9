"""MeanIoU against sets of pixels counted one by one."""

import math
import re

import numpy as np
import pytest
import torch

from openvocab.metrics import mean_iou
from openvocab.metrics.confusion import ClassScores, confusion_matrix
from openvocab.metrics.mean_iou import MeanIoU, Tally
from openvocab.structures import Sample, SemanticPrediction, ignore_index
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = ["background", "cat", "dog", "sofa", "never"]


def _vocabulary() -> Vocabulary:
    return Vocabulary.from_names(NAMES, unseen=["dog", "never"], background="background")


def _scene(seed: int, vocabulary: Vocabulary, num_used: int) -> tuple[Sample, SemanticPrediction]:
    generator = np.random.default_rng(seed)
    size = tuple(generator.integers(5, 12, 2).tolist())
    wide = np.uint8 if len(vocabulary) < 255 else np.int32
    labels = generator.integers(0, num_used, size).astype(wide)
    predicted = np.where(generator.random(size) < 0.6, labels, generator.integers(0, num_used, size))
    labels[generator.random(size) < 0.2] = ignore_index(len(vocabulary))
    predicted = predicted.astype(np.uint8 if len(vocabulary) <= 255 else np.uint16)
    sample = Sample(f"image{seed}", vocabulary, size, size, label_map=torch.from_numpy(labels))
    return sample, SemanticPrediction(predicted, vocabulary, sample.sample_id)


def _evaluate(scenes: list, **options) -> dict[str, float]:
    metric = MeanIoU(show_classes=False, **options)
    for sample, prediction in scenes:
        metric.process({"sample": [sample]}, [prediction])
    return metric.evaluate(len(scenes))


def _by_sets(scenes: list, index: int) -> float:
    """IoU of a class from sets of (image, pixel)."""
    labeled, predicted = set(), set()
    for number, (sample, prediction) in enumerate(scenes):
        ignored = ignore_index(len(sample.vocabulary))
        for place, label in np.ndenumerate(sample.label_map.numpy()):
            if label == ignored:
                continue
            if label == index:
                labeled.add((number, place))
            if prediction.label_map[place] == index:
                predicted.add((number, place))
    union = labeled | predicted
    return len(labeled & predicted) / len(union) if union else math.nan


def test_equals_sets_of_pixels():
    scenes = [_scene(seed, _vocabulary(), 4) for seed in range(5)]
    iou = [_by_sets(scenes, index) for index in range(5)]
    metrics = _evaluate(scenes)
    seen, unseen = 100 * np.mean([iou[1], iou[3]]), 100 * iou[2]
    assert math.isnan(iou[4])  # neither labeled nor predicted: excluded
    assert metrics["mIoU"] == pytest.approx(100 * np.mean(iou[:4]), abs=1e-9)
    assert metrics["mIoU_seen"] == pytest.approx(seen, abs=1e-9)
    assert metrics["mIoU_unseen"] == pytest.approx(unseen, abs=1e-9)
    assert metrics["mIoU_harmonic"] == pytest.approx(2 * seen * unseen / (seen + unseen), abs=1e-9)


def test_accuracies_and_fb_iou_count_pixels():
    scenes = [_scene(seed, _vocabulary(), 4) for seed in range(5)]
    labels = np.concatenate([sample.label_map.numpy().ravel() for sample, _ in scenes])
    predicted = np.concatenate([prediction.label_map.ravel() for _, prediction in scenes])[labels != 255]
    labels = labels[labels != 255]
    metrics = _evaluate(scenes)
    by_class = [(predicted[labels == index] == index).mean() for index in range(4)]
    back = ((labels == 0) & (predicted == 0)).sum() / ((labels == 0) | (predicted == 0)).sum()
    front = ((labels > 0) & (predicted > 0)).sum() / ((labels > 0) | (predicted > 0)).sum()
    assert metrics["pixel_accuracy"] == pytest.approx(100 * (labels == predicted).mean(), abs=1e-9)
    assert metrics["mean_accuracy"] == pytest.approx(100 * np.mean(by_class), abs=1e-9)
    assert metrics["FB_IoU"] == pytest.approx(50 * (back + front), abs=1e-9)


def test_847_classes_in_16_bits_equal_sets():
    vocabulary = Vocabulary.from_names([f"class {i}" for i in range(847)])
    scenes = [_scene(seed, vocabulary, 847) for seed in range(3)]
    used = {int(v) for sample, _ in scenes for v in sample.label_map.unique() if v < 847}
    used |= {int(v) for sample, p in scenes for v in np.unique(p.label_map[sample.label_map.numpy() < 847])}
    assert 255 in {int(v) for v in range(847)}
    expected = 100 * np.mean([_by_sets(scenes, index) for index in used])
    assert _evaluate(scenes)["mIoU"] == pytest.approx(expected, abs=1e-9)


def test_order_of_images_does_not_matter():
    scenes = [_scene(seed, _vocabulary(), 5) for seed in range(6)]
    assert _evaluate(scenes) == _evaluate(scenes[::-1])


def test_class_predicted_but_never_labeled_counts_as_zero():
    vocabulary = Vocabulary.from_names(["a", "b"])
    sample = Sample("x", vocabulary, (1, 4), (1, 4), label_map=torch.zeros(1, 4, dtype=torch.uint8))
    prediction = SemanticPrediction(np.array([[0, 0, 0, 1]], np.uint8), vocabulary)
    metrics = _evaluate([(sample, prediction)])
    assert metrics["mIoU"] == pytest.approx(37.5)
    assert metrics["mean_accuracy"] == pytest.approx(75)
    assert set(metrics) == {"mIoU", "pixel_accuracy", "mean_accuracy"}  # no flags, no background


def test_all_ignored_gives_nan():
    vocabulary = Vocabulary.from_names(["a", "b"])
    sample = Sample("x", vocabulary, (2, 2), (2, 2), label_map=torch.full((2, 2), 255, dtype=torch.uint8))
    metrics = _evaluate([(sample, SemanticPrediction(np.zeros((2, 2), np.uint8), vocabulary))])
    assert all(math.isnan(value) for value in metrics.values())


def test_a_class_without_labels_is_left_out_of_the_mean_but_not_of_the_report(logged):
    """A prediction of background alone, where the other class was never labeled."""
    vocabulary = Vocabulary.from_names(["ground", "crack"])
    labels = np.where(np.arange(30).reshape(5, 6) % 3, 0, 255).astype(np.uint8)
    sample = Sample("a", vocabulary, (5, 6), (5, 6), label_map=torch.from_numpy(labels))
    metric = MeanIoU()
    metric.process({"sample": [sample]}, [SemanticPrediction(np.zeros((5, 6), np.uint8), vocabulary, "a")])
    assert metric.evaluate(1)["mIoU"] == 100
    table, warning = logged
    assert re.search(r"crack +nan +nan +0$", table.getMessage())
    assert warning.levelname == "WARNING" and "1 of 2 classes have no labeled pixel" in warning.getMessage()
    assert warning.getMessage().endswith(": crack")
    assert metric.protocol["classes_without_labels"] == ["crack"]


def test_large_counts_are_exact():
    labels = np.zeros((4100, 4100), np.uint8)  # above 2**24, where float32 stops counting
    labels[0, 0] = 1
    assert confusion_matrix(labels, labels, 2).tolist() == [[4100 * 4100 - 1, 0], [0, 1]]


def test_byte_and_wide_counting_agree():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(0, 7, (2, 30, 30)).astype(np.uint8)
    labels[:3] = 255
    wide = confusion_matrix(labels.astype(np.int32), predicted, 7)
    assert np.array_equal(confusion_matrix(labels, predicted, 7), wide)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_prediction_outside_the_vocabulary_is_refused(dtype):
    with pytest.raises(ValueError, match="predicted class 9 is not among the 3"):
        confusion_matrix(np.zeros((2, 2), np.uint8), np.full((2, 2), 9, dtype), 3)


def test_mistakes_name_the_sample():
    sample, prediction = _scene(0, _vocabulary(), 4)
    other = SemanticPrediction(prediction.label_map, Vocabulary.from_names(list("abcde")))
    small = SemanticPrediction(prediction.label_map[1:], prediction.vocabulary)
    for wrong in (other, small):
        with pytest.raises(ValueError, match="image0"):
            _evaluate([(sample, wrong)])
    sample.label_map = None
    with pytest.raises(ValueError, match="no label map"):
        _evaluate([(sample, prediction)])
    with pytest.raises(ValueError, match="no image"):
        MeanIoU().evaluate(3)


def _tally(scenes: list) -> Tally:
    metric = MeanIoU(show_classes=False)
    for sample, prediction in scenes:
        metric.process({"sample": [sample]}, [prediction])
    return metric._tally


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_add_up_and_filled_up_samples_count_once(monkeypatch, ranks):
    scenes = [_scene(seed, _vocabulary(), 5) for seed in range(7)]
    padded = scenes + scenes[: -len(scenes) % ranks]  # what mmengine's sampler does to give every rank as many
    tallies = [_tally(padded[rank::ranks]) for rank in range(ranks)]
    monkeypatch.setattr(mean_iou, "all_gather_object", lambda own: tallies)
    metric = MeanIoU(show_classes=False)
    assert metric.evaluate(7) == _evaluate(scenes)
    assert metric.protocol["images"] == 7


def test_image_evaluated_twice_is_an_error():
    scenes = [_scene(0, _vocabulary(), 5), _scene(0, _vocabulary(), 5), _scene(1, _vocabulary(), 5)]
    with pytest.raises(ValueError, match="more than once.*image0"):
        _evaluate(scenes)


def test_protocol_says_what_was_measured():
    metric = MeanIoU(show_classes=True, window="512, stride 341", templates="simple")
    metric.dataset_meta = {"dataset": "toy"}
    sample, prediction = _scene(0, _vocabulary(), 4)
    metric.process({"sample": [sample]}, [prediction])
    metric.evaluate(1)
    expected = {"dataset": "toy", "images": 1, "classes": 5, "unseen_classes": 2, "background": "background"}
    assert expected.items() <= metric.protocol.items()
    assert metric.protocol["class_list_sha256"] == _vocabulary().digest
    assert (metric.protocol["window"], metric.protocol["templates"]) == ("512, stride 341", "simple")


def test_classes_have_scores_and_roles():
    rows = mean_iou.score_rows(_vocabulary(), ClassScores(np.diag([5, 4, 3, 2, 0])))
    first = {"class": "background", "IoU": 100.0, "accuracy": 100.0, "pixels": 5, "role": "background"}
    assert rows[0] == first and math.isnan(rows[4]["IoU"])
    assert [row["role"] for row in rows[1:]] == ["seen", "unseen", "seen", "unseen"]
