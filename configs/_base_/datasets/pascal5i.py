"""PASCAL-5i, four folds of five classes: data/VOCdevkit/VOC2012 with the labels of SBD in SegmentationClassAug.

The zero-shot form of LSeg (arXiv 2201.03546): the vocabulary of every image is ("others", its class) in the words of
LSeg's own weights ("diningtable", "pottedplant", "tvmonitor"), everything at 480 x 480 without augmentation,
and scores at that size. One departure: OpenCV resizes the images without antialiasing, in an eighth of the time, and
the label of a new pixel is the one at its center, where the image is sampled too; in the official code Pillow resizes,
with antialiasing when it shrinks, and the label is the one at the pixel's corner.

Training draws episodes, two images of one class; every pair of an image and a class is the query of one episode of an
epoch. The 1000 test episodes cycle through the pairs. The pairs are found in the label maps; to use the lists that
HSNet has published (11,394 pairs to train fold 0), put them below `root` and add `--cfg-options
train_dataloader.dataset.episodes.pairs=[trn0.txt,trn1.txt,trn2.txt,trn3.txt]` (pairs of the fold's classes are dropped)
and `test_dataloader.dataset.episodes.pairs=val0.txt`.

Another fold: `--cfg-options train_dataloader.dataset.fold=1 val_dataloader.dataset.fold=1
test_dataloader.dataset.fold=1`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.episode_sampler import EpisodeSampler
from openvocab.datasets.few_shot import FewShotDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, Resize, TakeAsOriginal
from openvocab.metrics.episode_iou import EpisodeIoU

train_dataloader = dict(
    batch_size=40,  # 20 episodes
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type=EpisodeSampler, queries="all"),
    dataset=dict(
        type=FewShotDataset,
        root="data/VOCdevkit/VOC2012",
        images="JPEGImages",
        annotations="SegmentationClassAug",
        keys="ImageSets/Segmentation/trainaug.txt",
        split="pascal5i",
        class_names="lseg_pascal_20",
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
        class_names="lseg_pascal_20",
        fold=0,
        part="test",
        episodes=dict(count=1000, draw="cycle", seed=0),
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
