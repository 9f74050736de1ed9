"""Data sets: files on disk in, samples out."""

from openvocab.datasets.captions import CaptionDataset
from openvocab.datasets.cifar import CifarDataset
from openvocab.datasets.classification import ClassificationFolder
from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.detection_sampler import DetectionSampler
from openvocab.datasets.few_shot import FewShotDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.web_captions import WebCaptionDataset

__all__ = [
    "CaptionDataset",
    "CifarDataset",
    "ClassificationFolder",
    "DetectionDataset",
    "DetectionSampler",
    "FewShotDataset",
    "ResumableSampler",
    "SegmentationDataset",
    "WebCaptionDataset",
]
