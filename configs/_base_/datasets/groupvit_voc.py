"""PASCAL VOC 2012 as GroupViT evaluates it: 20 classes in its words and background, short side 448, validation only.

Files as in `pascal_voc.py`.

Another place: `--cfg-options val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

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
        name="groupvit_voc_val",
        root="data/VOCdevkit/VOC2012",
        images="JPEGImages",
        annotations="SegmentationClass",
        classes="groupvit_voc_21",
        keys="ImageSets/Segmentation/val.txt",
        background="background",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=448, max_long_side=2048),
            dict(type=LoadLabels),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=MeanIoU)
test_evaluator = val_evaluator
