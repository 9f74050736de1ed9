"""COCO panoptic, 133 classes, read as semantic labels: data/coco with its panoptic PNGs and JSON files.

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

category_ids = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 31, 32, 33, 34, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65,
    67, 70, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88, 89, 90, 92, 93, 95, 100, 107, 109, 112,
    118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171,
    175, 176, 177, 178, 180, 181, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199, 200,
]  # fmt: skip

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        name="coco_panoptic_train",
        root="data/coco",
        classes="coco_panoptic_133",
        label_ids=category_ids,
        ignored_ids=[0],
        images="train2017",
        annotations="annotations/panoptic_train2017",
        panoptic_json="annotations/panoptic_train2017.json",
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
        name="coco_panoptic_val",
        root="data/coco",
        classes="coco_panoptic_133",
        label_ids=category_ids,
        ignored_ids=[0],
        images="val2017",
        annotations="annotations/panoptic_val2017",
        panoptic_json="annotations/panoptic_val2017.json",
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
