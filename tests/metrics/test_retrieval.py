"""Recall at k against a plain double loop."""

import numpy as np
import pytest
import torch

from openvocab.metrics import RetrievalRecall, retrieval
from openvocab.structures import ClassificationPrediction, Sample
from openvocab.text.vocabulary import Vocabulary


def make_task(images: int, texts: int, seed: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Scores (N, K) that favour an image's own texts; some texts belong to several images, the last to none."""
    rng = np.random.default_rng(seed)
    own = [tuple(rng.choice(texts - 1, rng.integers(1, 6), replace=False).tolist()) for _ in range(images)]
    scores = rng.normal(size=(images, texts)).astype(np.float32)
    for row, ids in zip(scores, own):
        row[list(ids)] += 1.5
    return scores, own


def evaluate(scores: np.ndarray, own: list[tuple[int, ...]], size: int | None = None, ks=(1, 5, 10)):
    vocabulary = Vocabulary.from_names([f"text {index}" for index in range(scores.shape[1])])
    metric = RetrievalRecall(ks=ks)
    for start in range(0, len(own), 8):
        part = range(start, min(start + 8, len(own)))
        samples = [Sample(str(i), vocabulary, (8, 8), (8, 8), class_ids=own[i]) for i in part]
        predictions = [ClassificationPrediction(torch.from_numpy(scores[i]), vocabulary, str(i)) for i in part]
        metric.process({"sample": samples}, predictions)
    return metric.evaluate(size or len(own)), metric


def recall_by_sorting(scores: np.ndarray, own: list[tuple[int, ...]], k: int) -> tuple[float, float]:
    """(image to text, text to image) in percent."""
    best_texts = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    images = [bool(set(row.tolist()) & set(ids)) for row, ids in zip(best_texts, own)]
    best_images = np.argsort(-scores.T, axis=1, kind="stable")[:, :k]
    owned = sorted({text for ids in own for text in ids})
    texts = [any(text in own[image] for image in best_images[text]) for text in owned]
    return 100 * np.mean(images), 100 * np.mean(texts)


@pytest.mark.parametrize("texts_at_once", [1024, 7])
def test_equals_plain_sorting_both_ways(texts_at_once: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retrieval, "TEXTS_AT_ONCE", texts_at_once)
    scores, own = make_task(images=60, texts=90, seed=0)
    metrics, metric = evaluate(scores, own)
    for k in (1, 5, 10):
        expected = recall_by_sorting(scores, own, k)
        assert (metrics[f"image_to_text_R@{k}"], metrics[f"text_to_image_R@{k}"]) == pytest.approx(expected)
    assert metric.protocol["images"] == 60 and metric.protocol["texts"] == len({t for ids in own for t in ids})


def test_perfect_scores_and_permuted_images_give_the_same():
    own = [(0, 1), (2,), (3, 4)]
    scores = np.zeros((3, 5), np.float32)
    for row, ids in zip(scores, own):
        row[list(ids)] = 1.0
    assert set(evaluate(scores, own)[0].values()) == {100.0}
    noisy, own = make_task(30, 40, seed=1)
    order = np.random.default_rng(2).permutation(30)
    assert evaluate(noisy, own)[0] == pytest.approx(evaluate(noisy[order], [own[i] for i in order])[0])


def test_images_repeated_to_fill_the_last_batch_count_once():
    scores, own = make_task(20, 30, seed=3)
    repeated = np.concatenate([scores, scores[:4]])
    assert evaluate(repeated, own + own[:4], size=20)[0] == pytest.approx(evaluate(scores, own)[0])


def test_the_ks_can_be_chosen():
    scores, own = make_task(10, 12, seed=4)
    assert set(evaluate(scores, own, ks=(2,))[0]) == {"image_to_text_R@2", "text_to_image_R@2"}
    with pytest.raises(ValueError, match="numbers from 1"):
        RetrievalRecall(ks=(0, 1))


def test_refuses_images_without_texts_and_mixed_text_lists():
    scores, own = make_task(2, 6, seed=5)
    with pytest.raises(ValueError, match="'0' has no class ids"):
        evaluate(scores, [(), own[1]])
    vocabulary = Vocabulary.from_names(["a", "b"])
    sample = Sample("x", vocabulary, (8, 8), (8, 8), class_ids=(0,))
    metric = RetrievalRecall()
    metric.process({"sample": [sample]}, [ClassificationPrediction(torch.zeros(2), vocabulary)])
    with pytest.raises(ValueError, match="against 3 texts"):
        metric.process({"sample": [sample]}, [ClassificationPrediction(torch.zeros(3), vocabulary)])
    with pytest.raises(ValueError, match="no image"):
        metric.compute_metrics([])
