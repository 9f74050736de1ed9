"""Data sets: files on disk in, samples out. Each is imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".captions": ["CaptionDataset"],
        ".cifar": ["CifarDataset"],
        ".classification": ["ClassificationFolder"],
        ".detection": ["DetectionDataset"],
        ".detection_sampler": ["DetectionSampler"],
        ".episode_sampler": ["EpisodeSampler"],
        ".few_shot": ["FewShotDataset"],
        ".fss1000": ["FSS1000Dataset"],
        ".sampler": ["ResumableSampler"],
        ".segmentation": ["SegmentationDataset"],
        ".web_captions": ["WebCaptionDataset"],
    },
)
