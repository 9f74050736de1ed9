"""ImageNet-1k (arXiv 1409.0575), one folder per WordNet id: data/imagenet/{train,val}/n01440764/*.JPEG.

The sorted ids are the classes in order. Training: the random resized crop of Inception. Evaluation: short side 224,
center crop, bicubic, as in CLIP; for classifiers that were trained for a larger short side, set `short_side=256`.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.classification import ClassificationFolder
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, PackSample, RandomFlip, RandomResizedCrop, ResizeCenterCrop
from openvocab.metrics.classification import ZeroShotAccuracy

train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=ClassificationFolder,
        root="data/imagenet",
        images="train",
        classes="imagenet_1k",
        folders="sorted",
        pipeline=[
            dict(type=LoadImage),
            dict(type=RandomResizedCrop, size=(224, 224)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=ClassificationFolder,
        root="data/imagenet",
        images="val",
        classes="imagenet_1k",
        folders="sorted",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=ResizeCenterCrop, size=(224, 224)),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=ZeroShotAccuracy)
test_evaluator = val_evaluator
