"""Mean intersection over union, and other scores from the same confusion matrix."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object
from torch import Tensor

from openvocab.metrics.base import Metric
from openvocab.metrics.class_confusion import ClassConfusion
from openvocab.metrics.class_table import class_role, class_table
from openvocab.metrics.confusion import ClassScores, confusion_matrix, mean_of_present
from openvocab.metrics.protocol import class_protocol, note_absent
from openvocab.registry import METRICS
from openvocab.structures import Sample, SemanticPrediction, known
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """The counts of one rank since the last evaluation."""

    vocabulary: Vocabulary | None = None
    sample_ids: list[str] = field(default_factory=list)
    matrix: np.ndarray | None = None
    """(K, K) int64 of all images except the last."""
    last: np.ndarray | None = None
    """(K, K) int64 of the last image, which a sampler may have repeated to give each rank equally many."""

    def add(self, sample_id: str, matrix: np.ndarray) -> None:
        """Add the confusion matrix (K, K) of one more image."""
        self.matrix = self.last if self.matrix is None else self.matrix + self.last
        self.last = matrix
        self.sample_ids.append(sample_id)


@METRICS.register_module()
class MeanIoU(Metric):
    """Semantic segmentation scores in percent, from exact int64 counts over the whole dataset.

    - Unlabeled pixels are ignored. The IoU of a class is intersection / union over the dataset, not a mean over images.
    - A class without labels and predictions is excluded from every mean; one that is predicted but never labeled counts
      with IoU 0 (as in the evaluators of ADE20K and mmsegmentation). `mean_accuracy` is over the classes that have
      labels. The table, a warning and the protocol name the classes without labels, about which a mean states nothing.
    - `mIoU` is over all classes including the background. `mIoU_seen` and `mIoU_unseen` exclude the background;
      `mIoU_harmonic` is their harmonic mean. They exist if the vocabulary has seen flags.
    - `FB_IoU`, if the vocabulary has a background: mean IoU of the background and of all other classes merged into one.
    - A mean over no class is NaN.

    The counts of all ranks are summed; an image that a sampler gave to two ranks to fill the last batch counts once.
    After an evaluation, `protocol` describes the data.

    Args:
        show_classes: log a table with the scores of every class.
        window: the size of the network's inputs ("whole", "512, stride 341"), for the protocol.
        templates: name of the prompt templates, for the protocol.
    """

    def __init__(self, show_classes: bool = True, window: str | None = None, templates: str | None = None) -> None:
        super().__init__()
        self.show_classes, self.window, self.templates = show_classes, window, templates
        self._tally = Tally()

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results over a vocabulary, or all possible keys for None, an unknown vocabulary."""
        keys = ["mIoU", "pixel_accuracy", "mean_accuracy"]
        if vocabulary is None or vocabulary.seen is not None:
            keys += ["mIoU_seen", "mIoU_unseen", "mIoU_harmonic"]
        return keys + (["FB_IoU"] if vocabulary is None or vocabulary.background is not None else [])

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[SemanticPrediction]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: batch of the loader; `data_batch["sample"]` holds the samples with label maps in the original
                frame.
            data_samples: predictions, in the same order.

        Raises:
            ValueError: a sample without labels, a prediction of the wrong size, or a vocabulary other than before.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            if self._tally.vocabulary is None:
                self._tally.vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
            label_map = _checked_label_map(sample, prediction, self._tally.vocabulary)
            # One matrix (K, K) per image, so that the last one can still be taken back if a sampler has repeated it.
            matrix = confusion_matrix(label_map.numpy(), prediction.label_map, len(self._tally.vocabulary))
            self._tally.add(sample.sample_id, matrix)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics over all ranks, and reset the counts.

        Args:
            size: number of images in the dataset.

        Raises:
            ValueError: no image was processed, or one was evaluated twice.
        """
        tallies = [tally for tally in all_gather_object(self._tally) if tally.sample_ids]
        self._tally = Tally()
        if not tallies:
            raise ValueError("mean IoU: no image was processed")
        matrices = _without_repeated(tallies)
        count = len({name for tally in tallies for name in tally.sample_ids})
        if count != size:
            logger.warning(f"mean IoU over {count} images of {size}")
        vocabulary = known(tallies[0].vocabulary, "vocabulary of the evaluated samples")
        self.protocol = self._protocol(vocabulary, count)
        return self.compute_metrics([(vocabulary, sum(matrices[1:], start=matrices[0]))])

    def compute_metrics(self, results: list[tuple[Vocabulary, np.ndarray]]) -> dict[str, float]:
        """Return the metrics; `results` is a list of one pair, a vocabulary and its confusion matrix (K, K)."""
        ((vocabulary, matrix),) = results
        scores = ClassScores(matrix)
        self.class_rows = score_rows(vocabulary, scores)
        self.confusion = ClassConfusion(vocabulary.class_names, matrix, "pixels")
        if self.show_classes:
            logger.info("\n" + class_table(self.class_rows))
        self.protocol["classes_without_labels"] = note_absent(
            "mean IoU", "labeled pixel", vocabulary.class_names, scores.labeled
        )
        return summarize(vocabulary, scores)

    def _protocol(self, vocabulary: Vocabulary, count: int) -> dict[str, Any]:
        """Return the description of an evaluation of `count` images."""
        background = vocabulary.background
        return {
            **class_protocol(self.dataset_meta, vocabulary, count),
            "background": None if background is None else vocabulary.class_names[background],
            "background_rule": "in mIoU, not in mIoU_seen and mIoU_unseen",
            "absent_classes": "excluded if neither labeled nor predicted; IoU 0 if predicted only",
            "templates": self.templates,
            "window": self.window,
        }


def summarize(vocabulary: Vocabulary, scores: ClassScores) -> dict[str, float]:
    """Return the flat metrics of K classes in percent."""
    metrics = {
        "mIoU": mean_of_present(scores.iou),
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": mean_of_present(scores.accuracy),
    }
    if vocabulary.seen is not None:
        # -1 equals no index: without a background all classes count.
        foreground = np.arange(len(vocabulary)) != (-1 if vocabulary.background is None else vocabulary.background)
        flags = np.array(vocabulary.seen)
        seen, unseen = (mean_of_present(scores.iou[foreground & group]) for group in (flags, ~flags))
        metrics |= {"mIoU_seen": seen, "mIoU_unseen": unseen, "mIoU_harmonic": _harmonic_mean(seen, unseen)}
    if vocabulary.background is not None:
        metrics["FB_IoU"] = mean_of_present(scores.merge_foreground(vocabulary.background).iou)
    return {name: 100 * value for name, value in metrics.items()}


def score_rows(vocabulary: Vocabulary, scores: ClassScores) -> list[dict[str, Any]]:
    """Return one row per class: IoU and accuracy in percent, the number of labeled pixels, and the role."""
    return [
        {
            "class": name,
            "IoU": 100 * float(scores.iou[index]),
            "accuracy": 100 * float(scores.accuracy[index]),
            "pixels": int(scores.labeled[index]),
            "role": class_role(vocabulary, index),
        }
        for index, name in enumerate(vocabulary.class_names)
    ]


def _checked_label_map(sample: Sample, prediction: SemanticPrediction, vocabulary: Vocabulary) -> Tensor:
    """Return the label map (H, W) of a sample after a check that the prediction can be compared with it."""
    if sample.label_map is None:
        raise ValueError(f"sample {sample.sample_id!r} has no label map; mean IoU needs one")
    expected, got = tuple(sample.label_map.shape), tuple(prediction.label_map.shape)
    if expected != got:
        raise ValueError(f"sample {sample.sample_id!r}: prediction is {got}, labels are {expected} (height, width)")
    for other in (sample.vocabulary, prediction.vocabulary):
        if other is not vocabulary and other != vocabulary:
            raise ValueError(f"sample {sample.sample_id!r} has another vocabulary than the first one")
    return sample.label_map


def _without_repeated(tallies: Sequence[Tally]) -> list[np.ndarray]:
    """Return the confusion matrices (K, K) to sum, without those of last images that another rank has counted.

    Raises:
        ValueError: another image was evaluated more than once.
    """
    times = Counter(name for tally in tallies for name in tally.sample_ids)
    matrices = [tally.matrix for tally in tallies if tally.matrix is not None]
    # A sampler repeats from the start of the dataset, so that the repeated images are the last of the last ranks.
    for tally in reversed(tallies):
        if times[tally.sample_ids[-1]] > 1:
            times[tally.sample_ids[-1]] -= 1
        elif tally.last is not None:
            matrices.append(tally.last)
    repeated = [name for name, number in times.items() if number > 1]
    if repeated:
        raise ValueError(f"mean IoU: {len(repeated)} images were evaluated more than once, such as {repeated[0]!r}")
    return matrices


def _harmonic_mean(a: float, b: float) -> float:
    """Return the harmonic mean, 0 if both are 0."""
    # NaN is true as a condition, so that the mean with an empty group stays NaN.
    return 2 * a * b / (a + b) if a + b else 0.0
