"""PASCAL-5i, four folds of five classes: data/VOCdevkit/VOC2012 with the labels of SBD in SegmentationClassAug.

The zero-shot form of LSeg (arXiv 2201.03546): the vocabulary of every image is ("others", its class), everything at
480 x 480 without augmentation, scores at that size. 1000 test episodes walk through the pairs of image and class
again and again; `pairs="val_fold0.txt"` takes HSNet's published lists.

Another fold: `--cfg-options train_dataloader.dataset.fold=1 val_dataloader.dataset.fold=1
test_dataloader.dataset.fold=1`. Official training concatenates a support and a query image of one class; here a batch
is one image: accumulate two.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.few_shot import FewShotDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, Resize, TakeAsOriginal
from openvocab.metrics.episode_iou import EpisodeIoU

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=FewShotDataset,
        root="data/VOCdevkit/VOC2012",
        images="JPEGImages",
        annotations="SegmentationClassAug",
        keys="ImageSets/Segmentation/trainaug.txt",
        split="pascal5i",
        fold=0,
        part="train",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=Resize, size=(480, 480)),
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
        type=FewShotDataset,
        root="data/VOCdevkit/VOC2012",
        images="JPEGImages",
        annotations="SegmentationClassAug",
        keys="ImageSets/Segmentation/val.txt",
        split="pascal5i",
        fold=0,
        part="test",
        episodes=1000,
        draw="cycle",
        seed=0,
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=Resize, size=(480, 480)),
            dict(type=TakeAsOriginal),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=EpisodeIoU)
test_evaluator = val_evaluator
