"""Top-1 and top-5 accuracy of classification, zero-shot or trained."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openvocab.metrics.base import Metric
from openvocab.metrics.class_confusion import ClassConfusion, label_counts
from openvocab.metrics.class_table import class_role
from openvocab.metrics.protocol import class_protocol, note_absent
from openvocab.metrics.ranking import best_rank
from openvocab.registry import METRICS
from openvocab.structures import ClassificationPrediction, known
from openvocab.vocabulary.vocabulary import Vocabulary

MOST_CONFUSED = 4096
"""Number of classes up to which a confusion matrix (128 MiB then) is counted."""


@dataclass(frozen=True)
class RankedImage:
    """The rank of the target class of one image, and the predicted class."""

    rank: int
    """Number of classes that score higher; 0 is the best."""
    class_id: int
    """The target class."""
    predicted: int
    """The class with the highest score; -1 if a score is NaN."""


@METRICS.register_module()
class ZeroShotAccuracy(Metric):
    """Top-1 and top-5 accuracy in percent: how often the target class is the best one, or among the best five.

    `top1` and `top5` are over all images; `top1_seen`, `top1_unseen`, ... exist if the vocabulary has seen flags (NaN
    without images). Equal logits rank in class order, as in `argmax`. Results of all ranks are gathered; images that a
    sampler repeated to fill up the last batch count once. `class_rows` holds both accuracies of each class. `protocol`
    describes the data, and a warning names the classes without images.

    Args:
        templates: name of the prompt templates, for the protocol.
    """

    def __init__(self, templates: str | None = None) -> None:
        super().__init__()
        self.templates = templates
        self._vocabulary: Vocabulary | None = None

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results over a vocabulary, or all possible keys for None, an unknown vocabulary."""
        suffixes = ("", "_seen", "_unseen") if vocabulary is None or vocabulary.seen is not None else ("",)
        return [f"top{k}{suffix}" for suffix in suffixes for k in (1, 5)]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[ClassificationPrediction]) -> None:
        """Rank the classes of a batch.

        Args:
            data_batch: batch of the loader; each of `data_batch["sample"]` has one class id.
            data_samples: predictions, in the same order.

        Raises:
            ValueError: a sample without class or with several, or with a vocabulary other than the first one's.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            if len(sample.class_ids) != 1:
                raise ValueError(f"sample {sample.sample_id!r}: expected one class id, got {sample.class_ids}")
            self._vocabulary = self._vocabulary or sample.vocabulary
            for other in (sample.vocabulary, prediction.vocabulary):
                if other is not self._vocabulary and other != self._vocabulary:
                    raise ValueError(f"sample {sample.sample_id!r} has another vocabulary than the first one")
            class_id, logits = sample.class_ids[0], prediction.logits.numpy()
            self.results.append(RankedImage(best_rank(logits, sample.class_ids), class_id, _best_class(logits)))

    def compute_metrics(self, results: list[RankedImage]) -> dict[str, float]:
        """Return the accuracies in percent.

        Raises:
            ValueError: no image was processed.
        """
        if not results:
            raise ValueError("accuracy: no image was processed")
        vocabulary = known(self._vocabulary, "vocabulary of the classified samples")
        protocol = class_protocol(self.dataset_meta, vocabulary, len(results))
        counts = Counter(image.class_id for image in results)
        absent = note_absent("accuracy", "image", vocabulary.class_names, [counts[k] for k in range(len(vocabulary))])
        self.protocol = {**protocol, "templates": self.templates, "classes_without_images": absent}
        self.confusion = _confusion(results, vocabulary)
        self.class_rows = _class_rows(results, vocabulary)
        metrics = _accuracies(results, "")
        seen = vocabulary.seen
        if seen is not None:
            metrics |= _accuracies((image for image in results if seen[image.class_id]), "_seen")
            metrics |= _accuracies((image for image in results if not seen[image.class_id]), "_unseen")
        return metrics


def _best_class(logits: np.ndarray) -> int:
    """Return the class with the highest of the logits (K,); -1 if one is NaN."""
    return -1 if np.isnan(logits).any() else int(logits.argmax())


def _confusion(images: Sequence[RankedImage], vocabulary: Vocabulary) -> ClassConfusion | None:
    """Return which classes are mistaken for which; None if the matrix of that would take gigabytes."""
    if len(vocabulary) > MOST_CONFUSED:
        return None
    predicted = [image for image in images if image.predicted >= 0]
    labels, predictions = [image.class_id for image in predicted], [image.predicted for image in predicted]
    return ClassConfusion(vocabulary.class_names, label_counts(labels, predictions, len(vocabulary)), "images")


def _class_rows(images: Sequence[RankedImage], vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Return one row per class: top-1 and top-5 accuracy in percent, the number of images, and the role."""
    images_of: list[list[RankedImage]] = [[] for _ in vocabulary.class_names]
    for image in images:
        images_of[image.class_id].append(image)
    return [
        {"class": name, **_accuracies(own, ""), "images": len(own), "role": class_role(vocabulary, index)}
        for index, (name, own) in enumerate(zip(vocabulary.class_names, images_of))
    ]


def _accuracies(images: Iterable[RankedImage], suffix: str) -> dict[str, float]:
    """Return the top-1 and top-5 accuracy of images in percent, under keys with a suffix."""
    ranks = [image.rank for image in images]
    correct = {f"top{k}{suffix}": sum(rank < k for rank in ranks) for k in (1, 5)}
    return {name: 100 * count / len(ranks) if ranks else float("nan") for name, count in correct.items()}
