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
    """The scores of one image with all K texts."""

    logits: np.ndarray
    """(K,) float32."""
    captions: tuple[int, ...]
    """Positions of its captions among the K texts, in order; a caption that occurs twice is there twice."""


@dataclass(frozen=True)
class TextPool:
    """The E texts that are ranked, and the positive pairs of images and texts."""

    ids: np.ndarray
    """(E,) int64 positions among the K texts; a text may occur several times."""
    images_of_text: list[list[int]]
    """E lists of positive images; empty for a text that is not a caption of any image and serves as a negative only."""
    texts_of_image: list[list[int]]
    """N lists of positive texts, as positions among the E."""


@METRICS.register_module()
class RetrievalRecall(Metric):
    """R@k in percent in both directions. The vocabulary of the dataset is its captions (`CaptionDataset`, `test_mode`).

    - `image_to_text_R@k`: how many images have one of their captions among the best k.
    - `text_to_image_R@k`: how many captions have one of their images among the best k.

    By default it counts as papers do on COCO and Flickr30k in Karpathy's splits: five captions per image, each of them
    a separate text, so that a caption which two images share is a positive of only one of them.

    Equal scores rank in order of their positions. The text encoder must take captions as they are (`templates="none"`),
    or after a prefix (`templates=["a photo of {}"]`, as in the CLIP paper). All logits are kept until the end, N x K x
    4 bytes: 0.5 GB for the 5,000 images and 25,000 captions of COCO. Results of all ranks are gathered; images that a
    sampler repeated count once.

    Args:
        ks: the values of k.
        captions_per_image: how many captions of each image are ranked, the first ones; COCO has up to 7. None: all.
        merge_equal: rank equal captions as one text, a positive of each of its images (papers do not).

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
        """Return the keys of the results, which are the same for any vocabulary."""
        return [f"{direction}_R@{k}" for direction in ("image_to_text", "text_to_image") for k in self.ks]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[ClassificationPrediction]) -> None:
        """Store the scores of a batch.

        Raises:
            ValueError: a sample without class ids, or a number of texts that differs from the first sample's.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            if not sample.class_ids:
                raise ValueError(
                    f"sample {sample.sample_id!r} has no class ids, which tell its captions among the texts"
                )
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
        image_ranks = np.array(
            [best_rank(image.logits[pool.ids], texts) for image, texts in zip(results, pool.texts_of_image)]
        )
        text_ranks = np.fromiter(_text_ranks(results, pool), np.int64)
        self.protocol = {
            "dataset": (self.dataset_meta or {}).get("dataset"),
            "images": len(image_ranks),
            "texts": len(text_ranks),
            "captions_per_image": self.captions_per_image,
            "equal_captions": "merged" if self.merge_equal else "each a text of its own",
        }
        metrics = {f"image_to_text_R@{k}": 100 * float((image_ranks < k).mean()) for k in self.ks}
        return metrics | {f"text_to_image_R@{k}": 100 * float((text_ranks < k).mean()) for k in self.ks}


def text_pool(images: Sequence[ScoredImage], captions_per_image: int | None, merge_equal: bool) -> TextPool:
    """Return the texts that are ranked, in the order of the images; see `RetrievalRecall` for the arguments.

    A text that is not a caption of any image is ranked too, as a negative; one that `captions_per_image` excludes from
    all of its images is not.
    """
    captions = [image.captions[:captions_per_image] for image in images]
    pairs = [(text, position) for position, texts in enumerate(captions) for text in texts]
    if merge_equal:
        merged: dict[int, list[int]] = {}
        for text, position in pairs:
            merged.setdefault(text, []).append(position)
        groups = list(merged.items())
    else:
        groups = [(text, [position]) for text, position in pairs]
    named = {text for image in images for text in image.captions}
    groups += [(text, []) for text in range(len(images[0].logits)) if text not in named]
    texts_of_image: list[list[int]] = [[] for _ in images]
    for entry, (_, images_of_entry) in enumerate(groups):
        for image in images_of_entry:
            texts_of_image[image].append(entry)
    images_of_text = [images_of_entry for _, images_of_entry in groups]
    return TextPool(np.array([text for text, _ in groups]), images_of_text, texts_of_image)


def _text_ranks(images: Sequence[ScoredImage], pool: TextPool) -> Iterator[int]:
    """Yield, for each text with positive images, the rank of the best of them."""
    queries = [entry for entry, positives in enumerate(pool.images_of_text) if positives]
    for start in range(0, len(queries), TEXTS_AT_ONCE):
        block = queries[start : start + TEXTS_AT_ONCE]
        # Block by block: transposing all scores at once would double the memory.
        scores = np.stack([image.logits[pool.ids[block]] for image in images], axis=1)  # (texts, N)
        yield from (best_rank(row, pool.images_of_text[entry]) for entry, row in zip(block, scores))
