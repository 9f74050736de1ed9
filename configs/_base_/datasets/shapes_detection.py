"""Shapes with boxes and masks: 64 px scenes of colored forms; 12 of 48 classes are novel.

`python tools/make_shapes.py` writes it to data/shapes. Another location: `--cfg-options train_dataloader.dataset.root=DIR
val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`. Training: the 36 base classes; objects of the novel
ones have no labels but stay in the images. Evaluation: all 48 classes, AP of base and novel separately.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip, RandomScaleCrop
from openvocab.metrics.detection.average_precision import CocoAveragePrecision

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=DetectionDataset,
        root="data/shapes",
        images="images/train",
        annotations="instances_train.json",
        class_options=dict(unseen="split.json", train_classes="seen"),
        with_masks=True,
        loading=dict(cache_images=True),
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=RandomScaleCrop, crop=(64, 64), ratio=(0.75, 1.5)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)

val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=DetectionDataset,
        root="data/shapes",
        images="images/val",
        annotations="instances_val.json",
        class_options=dict(unseen="split.json"),
        with_masks=True,
        loading=dict(cache_images=True),
        test_mode=True,
        pipeline=[dict(type=LoadImage), dict(type=LoadInstances), dict(type=PackSample)],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=CocoAveragePrecision, masks=True, show_classes=False)
test_evaluator = val_evaluator
