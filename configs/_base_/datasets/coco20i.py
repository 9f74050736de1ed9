"""COCO-20i, four folds of twenty classes.

Files: data/coco20i/{train2014,val2014} and data/coco20i/annotations/{train2014,val2014}, PNGs with ids 1..80.

The zero-shot form of LSeg (arXiv 2201.03546): the vocabulary of every image is ("others", its class) in the words of
LSeg's own weights ("trafficlight", "motorbike"), everything at 480 x 480 without augmentation,
and scores at that size. One departure: OpenCV resizes the images without antialiasing, in an eighth of the time, and
the label of a new pixel is the one at its center, where the image is sampled too; in the official code Pillow resizes,
with antialiasing when it shrinks, and the label is the one at the pixel's corner.

Training draws episodes: a class, then two images of it. An official epoch has as many episodes as there are training
images: 62,040, 74,381, 73,035 and 73,808 for the folds 0 to 3. Each of 1000 test episodes draws a class, then an image
of it, with seed 0 of our own generator, which draws other images than the official code.

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
    sampler=dict(type=EpisodeSampler, queries="by_class"),
    dataset=dict(
        type=FewShotDataset,
        root="data/coco20i",
        images="train2014",
        annotations="annotations/train2014",
        split="coco20i",
        class_names="lseg_coco_80",
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
        root="data/coco20i",
        images="val2014",
        annotations="annotations/val2014",
        split="coco20i",
        class_names="lseg_coco_80",
        fold=0,
        part="test",
        episodes=dict(count=1000, draw="random", seed=0),
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
