"""A sample of COCO 2017, 100 + 100 images with semantic PNGs.

Thing classes, 48 base and 17 novel (arXiv 1804.04340).

The ids in the PNGs are COCO panoptic category ids, 0 where unlabeled. Training sees the pixels of base classes only;
stuff, the 15 thing classes of neither set and, in training, the novel classes are ignored.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, RandomFlip, RandomScaleCrop, Resize
from openvocab.metrics.mean_iou import MeanIoU

classes = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "bench", "bird", "cat",
    "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie",
    "suitcase", "frisbee", "skis", "snowboard", "kite", "skateboard", "surfboard", "bottle", "cup", "fork", "knife",
    "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli", "carrot", "pizza", "donut", "cake", "chair",
    "couch", "bed", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "toothbrush",
]  # fmt: skip
category_ids = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 31, 32, 33, 34, 35, 36, 38, 41, 42,
    44, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 59, 60, 61, 62, 63, 65, 70, 72, 73, 74, 75, 76, 78, 79, 80, 81, 82,
    84, 85, 86, 87, 90,
]  # fmt: skip

train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        root="data/coco_sample",
        classes=classes,
        labels=dict(label_ids=category_ids, ignored_ids=[0], unlisted_ids="ignore"),
        class_options=dict(unseen="coco_48_17", train_classes="seen"),
        pairing=dict(require_annotations=False),
        images="images/train2017",
        annotations="semantic_segmentation/masks/train2017",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=RandomScaleCrop, crop=(320, 320), short_side=(288, 640)),
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
        root="data/coco_sample",
        classes=classes,
        labels=dict(label_ids=category_ids, ignored_ids=[0], unlisted_ids="ignore"),
        class_options=dict(unseen="coco_48_17"),
        pairing=dict(require_annotations=False),
        images="images/val2017",
        annotations="semantic_segmentation/masks/val2017",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=384),
            dict(type=LoadLabels),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=MeanIoU)
test_evaluator = val_evaluator
