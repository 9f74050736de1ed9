"""Recall of image-to-text and text-to-image retrieval."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openvocab.metrics.base import Metric
from openvocab.metrics.ranking import best_rank
from openvocab.registry import METRICS
from openvocab.structures import ClassificationPrediction
from openvocab.vocabulary.vocabulary import Vocabulary

TEXTS_AT_ONCE = 1024


@dataclass(frozen=True)
class ScoredImage:
    """One image against all texts."""

    logits: np.ndarray
    """(K,) float32."""
    own: tuple[int, ...]
    """The texts of its captions, in their order; one that occurs twice is there twice."""


@dataclass(frozen=True)
class TextPool:
    """The E texts that take part, each with the images that it is right for."""

    ids: np.ndarray
    """(E,) positions among the K texts; a text may occur several times."""
    owners: list[list[int]]
    """E lists of images; none for a text that belongs to no image, and only stands in the way of others."""
    of_image: list[list[int]]
    """N lists of positions among the E."""


@METRICS.register_module()
class RetrievalRecall(Metric):
    """R@k in percent, both ways, for a dataset whose vocabulary is its captions (`CaptionDataset` with `test_mode`).

    - `image_to_text_R@k`: share of images with one of their captions among the best k.
    - `text_to_image_R@k`: share of captions with an image they belong to among the best k.

    By default it counts as papers do on COCO and Flickr30k in Karpathy's splits: five captions per image, each of them
    a text of its own, so that a caption which two images share is right for one of them only.

    Equal scores rank in order of position. The text encoder must take captions as they are (`templates="none"`), or
    behind a prefix (`templates=["a photo of {}"]`, as the CLIP paper does). All logits are kept until the end, N x K x
    4 bytes: 0.5 GB for the 5,000 images and 25,000 captions of COCO. Results of all ranks are put together; images that
    a sampler repeated count once.

    Args:
        ks: the k of the report.
        captions_per_image: so many captions of each image take part, the first ones; COCO has up to 7. None for all.
        merge_equal: count equal captions as one text, which is right for each of its images (not as papers do).

    Raises:
        ValueError: a number below 1.

    Reference: Karpathy and Fei-Fei, Deep Visual-Semantic Alignments (arXiv 1412.2306); the prefix: arXiv 2103.00020.
    """

    def __init__(
        self, ks: Sequence[int] = (1, 5, 10), captions_per_image: int | None = 5, merge_equal: bool = False
    ) -> None:
        super().__init__()
        if not ks or min(ks) < 1:
            raise ValueError(f"ks: expected numbers from 1, got {ks}")
        if captions_per_image is not None and captions_per_image < 1:
            raise ValueError(f"captions_per_image: expected at least 1, or None for all, got {captions_per_image}")
        self.ks = tuple(ks)
        self.captions_per_image, self.merge_equal = captions_per_image, merge_equal

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
            self.results.append(ScoredImage(prediction.logits.numpy(), tuple(sample.class_ids)))

    def compute_metrics(self, results: list[ScoredImage]) -> dict[str, float]:
        """Return the recalls in percent.

        Raises:
            ValueError: no image was processed.
        """
        if not results:
            raise ValueError("retrieval: no image was processed")
        pool = text_pool(results, self.captions_per_image, self.merge_equal)
        of_images = np.array([best_rank(image.logits[pool.ids], own) for image, own in zip(results, pool.of_image)])
        of_texts = np.fromiter(_text_ranks(results, pool), np.int64)
        self.protocol = {
            "dataset": (self.dataset_meta or {}).get("dataset"),
            "images": len(of_images),
            "texts": len(of_texts),
            "captions_per_image": self.captions_per_image,
            "equal_captions": "merged" if self.merge_equal else "each a text of its own",
        }
        metrics = {f"image_to_text_R@{k}": 100 * float((of_images < k).mean()) for k in self.ks}
        return metrics | {f"text_to_image_R@{k}": 100 * float((of_texts < k).mean()) for k in self.ks}


def text_pool(images: Sequence[ScoredImage], captions_per_image: int | None, merge_equal: bool) -> TextPool:
    """Return the texts that take part, in the order of the images; see `RetrievalRecall` for the arguments.

    A text of no image at all takes part; one that `captions_per_image` cuts off from its last image does not.
    """
    kept = [image.own[:captions_per_image] for image in images]
    pairs = [(text, position) for position, texts in enumerate(kept) for text in texts]
    if merge_equal:
        merged: dict[int, list[int]] = {}
        for text, position in pairs:
            merged.setdefault(text, []).append(position)
        groups = list(merged.items())
    else:
        groups = [(text, [position]) for text, position in pairs]
    named = {text for image in images for text in image.own}
    groups += [(text, []) for text in range(len(images[0].logits)) if text not in named]
    of_image: list[list[int]] = [[] for _ in images]
    for entry, (_, owners) in enumerate(groups):
        for position in owners:
            of_image[position].append(entry)
    return TextPool(np.array([text for text, _ in groups]), [owners for _, owners in groups], of_image)


def _text_ranks(images: Sequence[ScoredImage], pool: TextPool) -> Iterator[int]:
    """Yield, for each text that belongs to an image, how many images come before the first right one."""
    owned = [entry for entry, owners in enumerate(pool.owners) if owners]
    for start in range(0, len(owned), TEXTS_AT_ONCE):
        block = owned[start : start + TEXTS_AT_ONCE]
        scores = np.stack([image.logits[pool.ids[block]] for image in images], axis=1)  # (texts, N)
        yield from (best_rank(row, pool.owners[entry]) for entry, row in zip(block, scores))
