"""Evaluation of label maps: one image at a time, a short side of 512, mIoU. The config of a dataset adds its files."""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, Resize
from openvocab.metrics.mean_iou import MeanIoU

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=SegmentationDataset,
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
