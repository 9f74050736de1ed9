"""What COCO and LVIS share for detection with base and novel classes: large-scale jitter, a short side of 800 at test.

The config of a dataset adds class names, files and metric.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.detection_sampler import DetectionSampler
from openvocab.datasets.transforms import LargeScaleJitter, LoadImage, LoadInstances, PackSample, RandomFlip, Resize

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DetectionSampler),
    dataset=dict(
        type=DetectionDataset,
        class_options=dict(train_classes="seen"),
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
