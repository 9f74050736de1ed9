"""Recall at k against a plain double loop."""

import numpy as np
import pytest
import torch

from openvocab.metrics import RetrievalRecall, retrieval
from openvocab.structures import ClassificationPrediction, Sample
from openvocab.vocabulary.vocabulary import Vocabulary


def make_task(images: int, texts: int, seed: int) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Scores (N, K) that favor an image's own texts; some texts belong to several images, the last to none."""
    rng = np.random.default_rng(seed)
    own = [tuple(rng.choice(texts - 1, rng.integers(1, 6), replace=False).tolist()) for _ in range(images)]
    scores = rng.normal(size=(images, texts)).astype(np.float32)
    for row, ids in zip(scores, own):
        row[list(ids)] += 1.5
    return scores, own


def evaluate(scores: np.ndarray, own: list[tuple[int, ...]], size: int | None = None, **options):
    vocabulary = Vocabulary.from_names([f"text {index}" for index in range(scores.shape[1])])
    metric = RetrievalRecall(**options)
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
    metrics, metric = evaluate(scores, own, captions_per_image=None, merge_equal=True)
    for k in (1, 5, 10):
        expected = recall_by_sorting(scores, own, k)
        assert (metrics[f"image_to_text_R@{k}"], metrics[f"text_to_image_R@{k}"]) == pytest.approx(expected)
    assert metric.protocol["images"] == 60 and metric.protocol["texts"] == len({t for ids in own for t in ids})
    assert metric.protocol["equal_captions"] == "merged" and metric.protocol["captions_per_image"] is None


def recall_of_papers(scores: np.ndarray, own: list[tuple[int, ...]], k: int) -> tuple[float, float]:
    """(image to text, text to image) in percent, as papers' evaluations count it.

    The first five captions of every image in one list, each with one image that it belongs to; what an image's score
    with an entry of the list is has nothing to do with other entries of the same words.
    """
    entries = [(image, text) for image, ids in enumerate(own) for text in ids[:5]]
    table = np.array([[scores[image, text] for _, text in entries] for image in range(len(own))])  # (images, entries)
    image_of_entry = np.array([image for image, _ in entries])
    found = [image in image_of_entry[np.argsort(-row, kind="stable")[:k]] for image, row in enumerate(table)]
    ranks = [
        np.flatnonzero(np.argsort(-table[:, entry], kind="stable") == image)[0]
        for entry, image in enumerate(image_of_entry)
    ]
    return 100 * np.mean(found), 100 * np.mean(np.array(ranks) < k)


@pytest.mark.parametrize("seed", range(3))
def test_counts_five_captions_each_its_own_as_papers_do(seed):
    rng = np.random.default_rng(seed)
    own = [tuple(rng.integers(0, 80, rng.integers(5, 8)).tolist()) for _ in range(30)]  # many shared, some repeated
    scores = rng.integers(0, 12, (30, 80)).astype(np.float32)
    for row, ids in zip(scores, own):
        row[list(ids)] += 6
    named = sorted({text for ids in own for text in ids})
    number = {text: index for index, text in enumerate(named)}
    scores, own = scores[:, named], [tuple(number[text] for text in ids) for ids in own]
    metrics, metric = evaluate(scores, own)
    for k in (1, 5, 10):
        expected = recall_of_papers(scores, own, k)
        assert (metrics[f"image_to_text_R@{k}"], metrics[f"text_to_image_R@{k}"]) == pytest.approx(expected)
    assert metric.protocol["texts"] == 150 and metric.protocol["captions_per_image"] == 5
    assert metrics != evaluate(scores, own, captions_per_image=None, merge_equal=True)[0]


def test_a_caption_of_two_images_is_right_for_one_of_them_or_for_both():
    scores, own = np.float32([[2, 1], [3, 1]]), [(0,), (0,)]  # the second image is nearer to the caption of both
    apart = evaluate(scores, own, ks=(1,))[0]
    assert apart["text_to_image_R@1"] == 50 and apart["image_to_text_R@1"] == 50  # equal scores: the first entry wins
    assert set(evaluate(scores, own, ks=(1,), merge_equal=True)[0].values()) == {100.0}


def test_captions_beyond_the_first_ones_are_in_nobodys_way():
    scores, own = np.float32([[1, 9, 5], [1, 9, 8]]), [(0, 1), (2,)]
    assert evaluate(scores, own, ks=(1,), captions_per_image=1)[0] == {
        "image_to_text_R@1": 50.0,  # text 1, the best of all, is excluded; the first image then finds text 2
        "text_to_image_R@1": 100.0,
    }
    distractor = [(0,), (2,)]  # text 1 belongs to nobody, and comes first for both
    assert evaluate(scores, distractor, ks=(1,), captions_per_image=1)[0]["image_to_text_R@1"] == 0


def test_perfect_scores_and_permuted_images_give_the_same():
    own = [(0, 1), (2,), (3, 4)]
    scores = np.zeros((3, 5), np.float32)
    for row, ids in zip(scores, own):
        row[list(ids)] = 1.0
    assert set(evaluate(scores, own)[0].values()) == {100.0}
    noisy, own = make_task(30, 40, seed=1)
    order = np.random.default_rng(2).permutation(30)
    options = dict(merge_equal=True)  # of equal captions that stand apart, the first one wins
    permuted = evaluate(noisy[order], [own[i] for i in order], **options)[0]
    assert permuted == pytest.approx(evaluate(noisy, own, **options)[0])


def test_images_repeated_to_fill_the_last_batch_count_once():
    scores, own = make_task(20, 30, seed=3)
    repeated = np.concatenate([scores, scores[:4]])
    assert evaluate(repeated, own + own[:4], size=20)[0] == pytest.approx(evaluate(scores, own)[0])


def test_the_ks_can_be_chosen():
    scores, own = make_task(10, 12, seed=4)
    assert set(evaluate(scores, own, ks=(2,))[0]) == {"image_to_text_R@2", "text_to_image_R@2"}
    with pytest.raises(ValueError, match="numbers from 1"):
        RetrievalRecall(ks=(0, 1))
    with pytest.raises(ValueError, match="captions_per_image: expected at least 1, or None for all, got 0"):
        RetrievalRecall(captions_per_image=0)


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
