"""Shapes: 64 px scenes of colored forms; 12 of 48 classes are unseen in training.

`python tools/make_shapes.py` writes it to data/shapes. Another location: `--cfg-options train_dataloader.dataset.root=DIR
val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`. Training: the densely labeled part, vocabulary of
the background and the seen classes. Evaluation: all 48 classes and the background, whole image.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, RandomFlip, RandomScaleCrop
from openvocab.metrics.mean_iou import MeanIoU

train_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        root="data/shapes",
        images="images/train",
        annotations="annotations/train",
        pairing=dict(require_annotations=False),
        classes="classes.txt",
        class_options=dict(unseen="split.json", train_classes="seen", background="background"),
        loading=dict(cache_images=True),
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=RandomScaleCrop, crop=(64, 64), ratio=(0.75, 1.5)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)

val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=SegmentationDataset,
        root="data/shapes",
        images="images/val",
        annotations="annotations/val",
        classes="classes.txt",
        class_options=dict(unseen="split.json", background="background"),
        loading=dict(cache_images=True),
        test_mode=True,
        pipeline=[dict(type=LoadImage), dict(type=LoadLabels), dict(type=PackSample)],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=MeanIoU, show_classes=False, window="whole")
test_evaluator = dict(type=MeanIoU, window="whole")
