"""Cityscapes, 19 classes (arXiv 1604.01685).

Files: data/cityscapes/{leftImg8bit,gtFine}/{train,val}, label ids as published.

Training with LSeg's sizes for it: long side 1024..4096 (0.5 to 2 times 2048), crop 768.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, RandomFlip, RandomScaleCrop
from openvocab.metrics.mean_iou import MeanIoU

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        root="data/cityscapes",
        pairing=dict(image_suffix="_leftImg8bit", annotation_suffix="_gtFine_labelIds"),
        classes="cityscapes_19",
        labels=dict(
            label_ids=[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33],
            unlisted_ids="ignore",
        ),
        images="leftImg8bit/train",
        annotations="gtFine/train",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=RandomScaleCrop, crop=(768, 768), long_side=(1024, 4096)),
            dict(type=RandomFlip, prob=0.5),
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
        root="data/cityscapes",
        pairing=dict(image_suffix="_leftImg8bit", annotation_suffix="_gtFine_labelIds"),
        classes="cityscapes_19",
        labels=dict(
            label_ids=[7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33],
            unlisted_ids="ignore",
        ),
        images="leftImg8bit/val",
        annotations="gtFine/val",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=MeanIoU)
test_evaluator = val_evaluator
