"""What the datasets of label maps share: training on crops of 512 pixels, testing at a short side of 512.

The config of a dataset adds folders and class names.
"""

from mmengine.config import read_base

from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import (
    LoadImage,
    LoadLabels,
    PackSample,
    PhotometricDistortion,
    RandomFlip,
    RandomScaleCrop,
)

with read_base():
    from .label_map_evaluation import *

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=RandomScaleCrop, crop=(512, 512), short_side=(256, 1024)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PhotometricDistortion),
            dict(type=PackSample),
        ],
    ),
)
