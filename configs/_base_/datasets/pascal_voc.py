"""PASCAL VOC 2012, 20 classes and background: data/VOCdevkit/VOC2012, palette PNGs, 255 on the boundaries.

With the extra labels of SBD: `annotations="SegmentationClassAug"` and their list of keys.

Another place: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import (
    LoadImage,
    LoadLabels,
    PackSample,
    PhotometricDistortion,
    RandomFlip,
    RandomScaleCrop,
    Resize,
)
from openvocab.metrics.mean_iou import MeanIoU

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        name="pascal_voc_train",
        root="data/VOCdevkit/VOC2012",
        images="JPEGImages",
        annotations="SegmentationClass",
        classes="pascal_voc_21",
        background="background",
        keys="ImageSets/Segmentation/train.txt",
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

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=SegmentationDataset,
        name="pascal_voc_val",
        root="data/VOCdevkit/VOC2012",
        images="JPEGImages",
        annotations="SegmentationClass",
        classes="pascal_voc_21",
        background="background",
        keys="ImageSets/Segmentation/val.txt",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=512, max_long_side=2048),
            dict(type=LoadLabels),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=MeanIoU)
test_evaluator = val_evaluator
