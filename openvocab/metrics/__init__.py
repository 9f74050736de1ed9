"""Metrics over a whole data set, summed across ranks; each is imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".average_precision": ["CocoAveragePrecision", "LvisAveragePrecision"],
        ".classification": ["ZeroShotAccuracy"],
        ".episode_iou": ["EpisodeIoU"],
        ".mean_iou": ["MeanIoU"],
        ".retrieval": ["RetrievalRecall"],
    },
)
