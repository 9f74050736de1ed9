"""Zero-shot accuracy against plain argsort."""

import numpy as np
import pytest
import torch

from openvocab.metrics import ZeroShotAccuracy
from openvocab.metrics.ranking import best_rank
from openvocab.structures import ClassificationPrediction, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = [f"class {index}" for index in range(12)]
VOCABULARY = Vocabulary.from_names(NAMES, unseen=NAMES[8:])


def make_sample(name: str, class_ids: tuple[int, ...], vocabulary: Vocabulary = VOCABULARY) -> Sample:
    return Sample(name, vocabulary, (8, 8), (8, 8), class_ids=class_ids)


def evaluate(logits: torch.Tensor, labels: list[int], vocabulary: Vocabulary = VOCABULARY, size: int | None = None):
    """Process in batches of 7, as a loader would give them."""
    metric = ZeroShotAccuracy(templates="simple")
    metric.dataset_meta = {"dataset": "toy"}
    for start in range(0, len(labels), 7):
        part = range(start, min(start + 7, len(labels)))
        samples = [make_sample(str(i), (labels[i],), vocabulary) for i in part]
        predictions = [ClassificationPrediction(logits[i], vocabulary, str(i)) for i in part]
        metric.process({"sample": samples}, predictions)
    return metric.evaluate(size or len(labels)), metric


def test_equals_argsort_overall_and_by_seen_and_unseen():
    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 12, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    metrics, metric = evaluate(logits, labels)
    order = np.argsort(-logits.numpy(), axis=1)
    right = order == np.array(labels)[:, None]
    unseen = np.array(labels) >= 8
    for k in (1, 5):
        found = right[:, :k].any(1)
        assert metrics[f"top{k}"] == pytest.approx(100 * found.mean())
        assert metrics[f"top{k}_seen"] == pytest.approx(100 * found[~unseen].mean())
        assert metrics[f"top{k}_unseen"] == pytest.approx(100 * found[unseen].mean())
    assert metric.protocol["images"] == 200 and metric.protocol["class_list_sha256"] == VOCABULARY.digest
    assert metric.protocol["dataset"] == "toy" and metric.protocol["unseen_classes"] == 4


def test_single_classes_and_confusions_are_counted_as_in_a_plain_loop():
    logits = torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    logits[:5] = float("nan")
    labels = torch.randint(0, 11, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    metrics, metric = evaluate(logits, labels)
    expected = np.zeros((12, 12), int)
    for label, row in list(zip(labels, logits.numpy()))[5:]:
        expected[label, row.argmax()] += 1
    assert (metric.confusion.counts == expected).all() and metric.confusion.counted == "images"
    for index, row in enumerate(metric.class_rows):
        assert row["class"] == NAMES[index] and row["images"] == labels.count(index)
        assert row["role"] == ("unseen" if index >= 8 else "seen")
        correct = expected[index, index] / labels.count(index) if index in labels else float("nan")
        assert row["top1"] == pytest.approx(100 * correct, nan_ok=True)
    assert metrics["top1"] == pytest.approx(100 * expected.trace() / 200)


def test_a_confusion_that_would_take_gigabytes_is_not_counted():
    vocabulary = Vocabulary.from_names([f"class {index}" for index in range(5000)])
    _, metric = evaluate(torch.zeros(2, 5000), [0, 1], vocabulary)
    assert metric.confusion is None and len(metric.class_rows) == 5000


def test_a_model_that_cannot_tell_classes_apart_gets_what_argmax_gives():
    metrics, _ = evaluate(torch.zeros(12, 12), list(range(12)))
    assert metrics["top1"] == pytest.approx(100 / 12) and metrics["top5"] == pytest.approx(500 / 12)


def test_classes_without_images_are_named(logged):
    _, metric = evaluate(torch.eye(12)[:10], list(range(10)))
    assert metric.protocol["classes_without_images"] == NAMES[10:]
    assert "2 of 12 classes have no image in the evaluated data" in logged[0].getMessage()


def test_nan_is_never_right():
    logits = torch.zeros(2, 12)
    logits[0, 3] = torch.nan
    metrics, _ = evaluate(logits, [3, 0])
    assert metrics["top1"] == 50.0


def test_without_flags_there_is_no_seen_and_unseen():
    plain = Vocabulary.from_names(NAMES)
    assert set(evaluate(torch.eye(12), list(range(12)), plain)[0]) == {"top1", "top5"}


def test_the_accuracy_over_no_image_is_nan():
    metrics, _ = evaluate(torch.eye(12)[:3], [0, 1, 2])
    assert metrics["top1_seen"] == 100.0 and np.isnan(metrics["top1_unseen"])


def test_images_repeated_to_fill_the_last_batch_count_once():
    logits = torch.zeros(5, 12)
    logits[:3, 0] = 1.0  # the first three are right; the last two repeat the start of the dataset
    metrics, _ = evaluate(logits, [0, 0, 0, 3, 3], size=3)
    assert metrics["top1"] == 100.0


def test_refuses_what_is_no_single_label():
    metric = ZeroShotAccuracy()
    prediction = ClassificationPrediction(torch.zeros(12), VOCABULARY, "a")
    for ids in ((), (1, 2)):
        with pytest.raises(ValueError, match="'a': expected one class id"):
            metric.process({"sample": [make_sample("a", ids)]}, [prediction])
    metric.process({"sample": [make_sample("a", (1,))]}, [prediction])
    other = Vocabulary.from_names(["x"])
    with pytest.raises(ValueError, match="'b' has another vocabulary"):
        metric.process({"sample": [make_sample("b", (0,), other)]}, [prediction])


def test_no_images_are_an_error():
    with pytest.raises(ValueError, match="no image"):
        ZeroShotAccuracy().compute_metrics([])


def test_best_rank_equals_a_stable_sort():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 4, 9).astype(np.float32)  # many ties
        own = rng.choice(9, rng.integers(1, 4), replace=False)
        order = np.argsort(-scores, kind="stable").tolist()
        assert best_rank(scores, own) == min(order.index(index) for index in own)
