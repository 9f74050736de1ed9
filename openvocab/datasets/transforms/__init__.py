"""Transforms for mmcv pipelines: files in, `{"image", "sample"}` out. Results keys follow mmcv (`img` is BGR)."""

from openvocab.datasets.transforms.geometry import RandomFlip, RandomScaleCrop, Resize, TakeAsOriginal
from openvocab.datasets.transforms.loading import LoadImage, LoadLabels
from openvocab.datasets.transforms.packing import PackSample
from openvocab.datasets.transforms.photometric import PhotometricDistortion

__all__ = [
    "LoadImage",
    "LoadLabels",
    "PackSample",
    "PhotometricDistortion",
    "RandomFlip",
    "RandomScaleCrop",
    "Resize",
    "TakeAsOriginal",
]
