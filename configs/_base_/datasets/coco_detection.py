"""COCO 2017 with boxes and masks, 48 base and 17 novel classes (arXiv 1804.04340); the other 15 are left out.

Files: data/coco/{train2017,val2017}/*.jpg and data/coco/annotations/instances_{train,val}2017.json, as published.
Training: images with an object of a base class, large-scale jitter. Evaluation: 65 classes; ViLD and its successors
report AP50 of base, novel and all, over the 4836 images that show one of the 65 (`keep_empty=False`).

Another place: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LargeScaleJitter, LoadImage, LoadInstances, PackSample, RandomFlip, Resize
from openvocab.metrics.average_precision import CocoAveragePrecision

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=DetectionDataset,
        name="coco_48_train",
        root="data/coco",
        images="train2017",
        annotations="annotations/instances_train2017.json",
        classes="coco_80",
        unseen="coco_48_17",
        train_classes="seen",
        with_masks=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=LargeScaleJitter, size=(1024, 1024), scale=(0.1, 2.0)),
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
        type=DetectionDataset,
        name="coco_48_17_val",
        root="data/coco",
        images="val2017",
        annotations="annotations/instances_val2017.json",
        classes="coco_80",
        unseen="coco_48_17",
        with_masks=True,
        keep_empty=False,
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=800, max_long_side=1333),
            dict(type=LoadInstances),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=CocoAveragePrecision, masks=True)
test_evaluator = val_evaluator
