"""Recall of image-to-text and text-to-image retrieval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openvocab.metrics.base import Metric
from openvocab.metrics.ranking import best_rank
from openvocab.registry import METRICS
from openvocab.structures import ClassificationPrediction
from openvocab.text.vocabulary import Vocabulary

TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class ScoredImage:
    """One image against all texts."""

    logits: np.ndarray
    """(K,) float32."""
    own: tuple[int, ...]
    """Its texts."""
    rank: int
    """Texts of other images before the best of its own."""


@METRICS.register_module()
class RetrievalRecall(Metric):
    """R@k in percent, both ways, for a data set whose vocabulary is its captions (`CaptionDataset` with `test_mode`).

    - `image_to_text_R@k`: share of images with one of their captions among the best k.
    - `text_to_image_R@k`: share of captions with an image they belong to among the best k.

    Equal scores rank in order of position. The text encoder must take captions as they are (`templates="none"`). All
    logits are kept until the end, N x K x 4 bytes: 0.5 GB for the 5,000 images and 25,000 captions of COCO. Results of
    all ranks are put together; images that a sampler repeated count once.

    Args:
        ks: the k of the report.
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10)) -> None:
        super().__init__()
        if not ks or min(ks) < 1:
            raise ValueError(f"ks: expected numbers from 1, got {ks}")
        self.ks = tuple(ks)

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results, of any vocabulary."""
        return [f"{way}_R@{k}" for way in ("image_to_text", "text_to_image") for k in self.ks]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[ClassificationPrediction]) -> None:
        """Keep the scores of a batch.

        Raises:
            ValueError: a sample without class ids, or scores for another number of texts than before.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            if not sample.class_ids:
                raise ValueError(f"sample {sample.sample_id!r} has no class ids: which texts are its own?")
            if self.results and len(prediction.logits) != len(self.results[0].logits):
                raise ValueError(
                    f"sample {sample.sample_id!r} was scored against {len(prediction.logits)} texts, "
                    f"the first against {len(self.results[0].logits)}"
                )
            logits = prediction.logits.numpy()
            own = tuple(sample.class_ids)
            self.results.append(ScoredImage(logits, own, best_rank(logits, own)))

    def compute_metrics(self, results: list[ScoredImage]) -> dict[str, float]:
        """Return the recalls in percent.

        Raises:
            ValueError: no image was processed.
        """
        if not results:
            raise ValueError("retrieval: no image was processed")
        of_images = np.array([image.rank for image in results])
        of_texts = np.fromiter(_text_ranks(results), np.int64)
        self.protocol = {
            "dataset": (self.dataset_meta or {}).get("dataset"),
            "images": len(of_images),
            "texts": len(of_texts),
        }
        metrics = {f"image_to_text_R@{k}": 100 * float((of_images < k).mean()) for k in self.ks}
        return metrics | {f"text_to_image_R@{k}": 100 * float((of_texts < k).mean()) for k in self.ks}


def _text_ranks(images: Sequence[ScoredImage]) -> Iterator[int]:
    """Yield, for each text that belongs to an image, how many images come before the first right one."""
    owners: dict[int, list[int]] = {}
    for position, image in enumerate(images):
        for text in image.own:
            owners.setdefault(text, []).append(position)
    texts = sorted(owners)
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        block = texts[start : start + TEXTS_AT_ONCE]
        scores = np.stack([image.logits[block] for image in images], axis=1)  # (texts, N)
        yield from (best_rank(row, owners[text]) for text, row in zip(block, scores))
