"""Mean intersection over union, and what else one confusion matrix tells."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object

from openvocab.metrics.base import Metric
from openvocab.metrics.class_table import class_role, class_table
from openvocab.metrics.confusion import ClassScores, confusion_matrix, mean_of_present
from openvocab.metrics.protocol import class_protocol, note_absent
from openvocab.registry import METRICS
from openvocab.structures import Sample, SemanticPrediction
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)


@dataclass
class Tally:
    """What one rank has counted since the last evaluation."""

    vocabulary: Vocabulary | None = None
    sample_ids: list[str] = field(default_factory=list)
    matrix: np.ndarray | None = None
    """(K, K) int64 of all images but the last."""
    last: np.ndarray | None = None
    """(K, K) int64 of the last image: the only one with which a sampler may have filled up this rank's share."""

    def add(self, sample_id: str, matrix: np.ndarray) -> None:
        """Count one more image."""
        self.matrix = self.last if self.matrix is None else self.matrix + self.last
        self.last = matrix
        self.sample_ids.append(sample_id)


@METRICS.register_module()
class MeanIoU(Metric):
    """Semantic segmentation scores in percent, from exact int64 counts over the whole dataset.

    - Only labeled pixels count. IoU of a class = intersection / union over the dataset, not a mean over images.
    - A class that is absent from labels and predictions alike is left out of every mean; one that is predicted but
      never labeled counts with IoU 0 (as in the evaluators of ADE20K and mmsegmentation). `mean_accuracy` is over the
      classes that have labels. So a mean says nothing of a class without labels: the table, a warning and the protocol
      name each of them.
    - `mIoU` is over all classes, the background class included. `mIoU_seen` and `mIoU_unseen` leave the background out;
      `mIoU_harmonic` is their harmonic mean. They exist where the vocabulary has seen flags.
    - `FB_IoU`, where the vocabulary has a background: mean IoU of background and of everything else as one class.
    - A mean over no class is NaN.

    Across ranks the counts are summed; an image that a sampler gave to two ranks to fill the last batch counts once.
    `protocol` says after an evaluation what the scores were measured on.

    Args:
        show_classes: log a table with the scores of every class.
        window: how images are shown to the network ("whole", "512, stride 341"), for the protocol.
        templates: name of the prompt templates, for the protocol.
    """

    def __init__(self, show_classes: bool = True, window: str | None = None, templates: str | None = None) -> None:
        super().__init__()
        self.show_classes, self.window, self.templates = show_classes, window, templates
        self._tally = Tally()

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results over a vocabulary; None, an unknown one, may have all of them."""
        keys = ["mIoU", "pixel_accuracy", "mean_accuracy"]
        if vocabulary is None or vocabulary.seen is not None:
            keys += ["mIoU_seen", "mIoU_unseen", "mIoU_harmonic"]
        return keys + (["FB_IoU"] if vocabulary is None or vocabulary.background is not None else [])

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[SemanticPrediction]) -> None:
        """Count the pixels of a batch.

        Args:
            data_batch: of the loader; `data_batch["sample"]` holds the samples with label maps in the original frame.
            data_samples: predictions, in the same order.

        Raises:
            ValueError: a sample without labels, a prediction of another size, or another vocabulary than before.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            if self._tally.vocabulary is None:
                self._tally.vocabulary = sample.vocabulary
            _check(sample, prediction, self._tally.vocabulary)
            matrix = confusion_matrix(sample.label_map.numpy(), prediction.label_map, len(sample.vocabulary))
            self._tally.add(sample.sample_id, matrix)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics over all ranks, and start anew.

        Args:
            size: number of images in the dataset.

        Raises:
            ValueError: no image was processed, or one was evaluated twice.
        """
        tallies = [tally for tally in all_gather_object(self._tally) if tally.sample_ids]
        self._tally = Tally()
        if not tallies:
            raise ValueError("mean IoU: no image was processed")
        kept = _without_filling(tallies)
        count = len({name for tally in tallies for name in tally.sample_ids})
        if count != size:
            logger.warning(f"mean IoU over {count} images of {size}")
        vocabulary = tallies[0].vocabulary
        self.protocol = self._protocol(vocabulary, count)
        return self.compute_metrics([(vocabulary, sum(kept))])

    def compute_metrics(self, results: list[tuple[Vocabulary, np.ndarray]]) -> dict[str, float]:
        """Return the metrics of [(vocabulary, (K, K) counts with labels along the rows)]."""
        ((vocabulary, matrix),) = results
        scores = ClassScores(matrix)
        self.class_rows = score_rows(vocabulary, scores)
        if self.show_classes:
            logger.info("\n" + class_table(self.class_rows))
        self.protocol["classes_without_labels"] = note_absent(
            "mean IoU", "labeled pixel", vocabulary.class_names, scores.labeled
        )
        return summarize(vocabulary, scores)

    def _protocol(self, vocabulary: Vocabulary, count: int) -> dict[str, Any]:
        background = vocabulary.background
        return {
            **class_protocol(self.dataset_meta, vocabulary, count),
            "background": None if background is None else vocabulary.class_names[background],
            "background_rule": "in mIoU, not in mIoU_seen and mIoU_unseen",
            "absent_classes": "left out where neither labeled nor predicted; IoU 0 where predicted only",
            "templates": self.templates,
            "window": self.window,
        }


def summarize(vocabulary: Vocabulary, scores: ClassScores) -> dict[str, float]:
    """Return the flat metrics in percent."""
    metrics = {
        "mIoU": mean_of_present(scores.iou),
        "pixel_accuracy": scores.pixel_accuracy,
        "mean_accuracy": mean_of_present(scores.accuracy),
    }
    if vocabulary.seen is not None:
        foreground = np.arange(len(vocabulary)) != (-1 if vocabulary.background is None else vocabulary.background)
        flags = np.array(vocabulary.seen)
        seen, unseen = (mean_of_present(scores.iou[foreground & chosen]) for chosen in (flags, ~flags))
        metrics |= {"mIoU_seen": seen, "mIoU_unseen": unseen, "mIoU_harmonic": _harmonic_mean(seen, unseen)}
    if vocabulary.background is not None:
        metrics["FB_IoU"] = mean_of_present(scores.merge_foreground(vocabulary.background).iou)
    return {name: 100 * value for name, value in metrics.items()}


def score_rows(vocabulary: Vocabulary, scores: ClassScores) -> list[dict[str, Any]]:
    """Return a row for each class: IoU and accuracy in percent, labeled pixels, and its role."""
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


def _check(sample: Sample, prediction: SemanticPrediction, vocabulary: Vocabulary) -> None:
    """Refuse what cannot be counted together."""
    if sample.label_map is None:
        raise ValueError(f"sample {sample.sample_id!r} has no label map; mean IoU needs one")
    expected, got = tuple(sample.label_map.shape), tuple(prediction.label_map.shape)
    if expected != got:
        raise ValueError(f"sample {sample.sample_id!r}: prediction is {got}, labels are {expected} (height, width)")
    for other in (sample.vocabulary, prediction.vocabulary):
        if other is not vocabulary and other != vocabulary:
            raise ValueError(f"sample {sample.sample_id!r} has another vocabulary than the first one")


def _without_filling(tallies: Sequence[Tally]) -> list[np.ndarray]:
    """Return the matrices to sum: those of last images that are counted elsewhere too are dropped."""
    times = Counter(name for tally in tallies for name in tally.sample_ids)
    kept = [tally.matrix for tally in tallies if tally.matrix is not None]
    for tally in reversed(tallies):
        if times[tally.sample_ids[-1]] > 1:
            times[tally.sample_ids[-1]] -= 1
        else:
            kept.append(tally.last)
    twice = [name for name, number in times.items() if number > 1]
    if twice:
        raise ValueError(f"mean IoU: {len(twice)} images were evaluated more than once, such as {twice[0]!r}")
    return kept


def _harmonic_mean(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
