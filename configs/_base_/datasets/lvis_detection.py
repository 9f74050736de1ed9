"""LVIS v1 (arXiv 1908.03195): 866 frequent and common classes are base, 337 rare ones novel, as in ViLD.

Files: data/coco/{train2017,val2017}/*.jpg and data/lvis/lvis_v1_{train,val}.json, as published (the validation part
takes images of both folders). Training: base classes, large-scale jitter, each image as often as the next, as official
ViLD; DetPro's version of it repeats rare classes, `train_dataloader.sampler.repeat_threshold=0.001`. Evaluation: 1203
classes by the federated rules.

Another place: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.detection_sampler import DetectionSampler
from openvocab.datasets.transforms import LargeScaleJitter, LoadImage, LoadInstances, PackSample, RandomFlip, Resize
from openvocab.metrics.average_precision import LvisAveragePrecision

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DetectionSampler),
    dataset=dict(
        type=DetectionDataset,
        name="lvis_866_train",
        root="data",
        images="coco",
        annotations="lvis/lvis_v1_train.json",
        classes="lvis_1203",
        unseen="lvis_866_337",
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
        name="lvis_val",
        root="data",
        images="coco",
        annotations="lvis/lvis_v1_val.json",
        classes="lvis_1203",
        unseen="lvis_866_337",
        frequencies="lvis_frequencies",
        with_masks=True,
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

val_evaluator = dict(type=LvisAveragePrecision, masks=True)
test_evaluator = val_evaluator
