"""FSS-1000 (arXiv 1907.12347): data/FSS-1000/<class>/{1..10}.jpg and .png, one folder per class, 1000 classes.

The zero-shot form of LSeg (arXiv 2201.03546): the vocabulary of every image is ("others", its class) in the words of
LSeg's own weights (the names of the folders), everything at 480 x 480 without augmentation,
and scores at that size. One departure: OpenCV resizes the images without antialiasing, in an eighth of the time, and
the label of a new pixel is the one at its center, where the image is sampled too; in the official code Pillow resizes,
with antialiasing when it shrinks, and the label is the one at the pixel's corner.

Training draws episodes, two images of one of 520 classes; every image is the query of one episode of an epoch. The
test part has every image of 240 other classes once, 2400 of them; 240 more classes are for validation.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.episode_sampler import EpisodeSampler
from openvocab.datasets.fss1000 import FSS1000Dataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, Resize, TakeAsOriginal
from openvocab.metrics.episode_iou import EpisodeIoU

train_dataloader = dict(
    batch_size=40,  # 20 episodes
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type=EpisodeSampler, queries="all"),
    dataset=dict(
        type=FSS1000Dataset,
        root="data/FSS-1000",
        part="train",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=Resize, size=(480, 480)),
            dict(type=PackSample),
        ],
    ),
)

pipeline = [
    dict(type=LoadImage),
    dict(type=LoadLabels),
    dict(type=Resize, size=(480, 480)),
    dict(type=TakeAsOriginal),
    dict(type=PackSample),
]
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(type=FSS1000Dataset, root="data/FSS-1000", part="val", pipeline=pipeline),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(type=FSS1000Dataset, root="data/FSS-1000", part="test", pipeline=pipeline),
)

val_evaluator = dict(type=EpisodeIoU)
test_evaluator = val_evaluator
