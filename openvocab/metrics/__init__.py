"""Metrics over a whole data set, summed across ranks."""

from openvocab.metrics.average_precision import CocoAveragePrecision, LvisAveragePrecision
from openvocab.metrics.classification import ZeroShotAccuracy
from openvocab.metrics.episode_iou import EpisodeIoU
from openvocab.metrics.mean_iou import MeanIoU
from openvocab.metrics.retrieval import RetrievalRecall

__all__ = [
    "CocoAveragePrecision",
    "EpisodeIoU",
    "LvisAveragePrecision",
    "MeanIoU",
    "RetrievalRecall",
    "ZeroShotAccuracy",
]
