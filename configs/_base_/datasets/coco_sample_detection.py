"""A sample of COCO 2017 with boxes: 128 images to train on, 128 to test on; 48 base and 17 novel classes.

The other 15 classes are dropped. Another location: `--cfg-options train_dataloader.dataset.root=DIR
val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip, RandomScaleCrop, Resize
from openvocab.metrics.detection.average_precision import CocoAveragePrecision

coco = dict(root="data/coco_sample", classes="coco_80")
train_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=DetectionDataset,
        images="images/train2017",
        annotations="annotations/boxes_train128.json",
        class_options=dict(unseen="coco_48_17", train_classes="seen"),
        loading=dict(cache_images=True),
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=RandomScaleCrop, crop=(320, 320), short_side=(256, 512)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
        **coco,
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=DetectionDataset,
        images="images/val2017",
        annotations="annotations/boxes_val128.json",
        class_options=dict(unseen="coco_48_17"),
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=384),
            dict(type=LoadInstances),
            dict(type=PackSample),
        ],
        **coco,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=CocoAveragePrecision)
test_evaluator = val_evaluator
