"""Transforms for mmcv pipelines: files in, `{"image", "sample"}` out. Results keys follow mmcv (`img` is BGR)."""

from openvocab.datasets.noun_prompts import AddNounPrompts, NltkNouns, RuleNouns, WordListNouns
from openvocab.datasets.transforms.augment import ColorJitter, RandAugment, RandomErasing
from openvocab.datasets.transforms.crops import RandomResizedCrop, ResizeCenterCrop
from openvocab.datasets.transforms.edit_captions import AddEditedCaption
from openvocab.datasets.transforms.geometry import LargeScaleJitter, RandomFlip, RandomScaleCrop, Resize, TakeAsOriginal
from openvocab.datasets.transforms.loading import LoadImage, LoadInstances, LoadLabels
from openvocab.datasets.transforms.packing import PackSample
from openvocab.datasets.transforms.photometric import PhotometricDistortion
from openvocab.datasets.transforms.regions import EmbedRegions, LoadRegions
from openvocab.datasets.transforms.views import CropViews, PackViews

__all__ = [
    "AddNounPrompts",
    "AddEditedCaption",
    "ColorJitter",
    "CropViews",
    "EmbedRegions",
    "LargeScaleJitter",
    "LoadImage",
    "LoadInstances",
    "LoadLabels",
    "LoadRegions",
    "NltkNouns",
    "PackSample",
    "PackViews",
    "PhotometricDistortion",
    "RandAugment",
    "RandomErasing",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomScaleCrop",
    "Resize",
    "ResizeCenterCrop",
    "RuleNouns",
    "TakeAsOriginal",
    "WordListNouns",
]
