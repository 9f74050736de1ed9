"""Scores of few-shot folds: mIoU over the fold's classes and FB-IoU."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from openvocab.metrics.base import Metric
from openvocab.metrics.class_table import class_table
from openvocab.metrics.confusion import ClassScores, confusion_matrix
from openvocab.registry import METRICS
from openvocab.structures import SemanticPrediction, known
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

CLASS = 1


@METRICS.register_module()
class EpisodeIoU(Metric):
    """Scores in percent of episodes with the vocabulary ("others", class), as in HSNet's and LSeg's evaluators.

    `mIoU`: foreground IoU of each class, counted over all its episodes, averaged over the classes that occur. `FB_IoU`:
    mean of foreground and background IoU, counted over all episodes. Unlabeled pixels are ignored.
    """

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results, which are the same for any vocabulary."""
        return ["mIoU", "FB_IoU"]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[SemanticPrediction]) -> None:
        """Count the pixels of a batch of episodes.

        Raises:
            ValueError: a sample whose vocabulary is not two classes, or a prediction of the wrong size.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            whose = f"of sample {sample.sample_id!r}"
            labels = known(sample.label_map, f"label_map {whose}").numpy()
            vocabulary, predicted = known(sample.vocabulary, f"vocabulary {whose}"), prediction.label_map
            if len(vocabulary) != 2 or labels.shape != predicted.shape:
                raise ValueError(
                    f"sample {sample.sample_id!r}: expected two classes and a prediction of {labels.shape}, got "
                    f"{len(vocabulary)} and {predicted.shape}"
                )
            self.results.append((vocabulary.class_names[CLASS], confusion_matrix(labels, predicted, 2)))

    def compute_metrics(self, results: list[tuple[str, np.ndarray]]) -> dict[str, float]:
        """Return the metrics of (class name, confusion matrix (2, 2)) of each episode."""
        matrices: dict[str, np.ndarray] = defaultdict(lambda: np.zeros((2, 2), np.int64))
        for name, matrix in results:
            matrices[name] += matrix
        scores = {name: 100 * float(ClassScores(matrix).iou[CLASS]) for name, matrix in sorted(matrices.items())}
        self.class_rows = [{"class": name, "IoU": score} for name, score in scores.items()]
        logger.info("\n" + class_table(self.class_rows))
        # Summed over all classes before the IoU: FB-IoU weights episodes by pixels, mIoU classes equally.
        both = ClassScores(np.sum(list(matrices.values()), axis=0)).iou
        return {"mIoU": float(np.nanmean(list(scores.values()))), "FB_IoU": 100 * float(both.mean())}
