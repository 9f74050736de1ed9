"""CIFAR-10 (Krizhevsky 2009) in the python version of its authors: data/cifar-10-python.tar.gz, or what it unpacks to.

At 224 px, at which vision transformers are fine-tuned: in training a random crop of at least a twentieth of the image
(as in the ViT paper's code), flipped half of the time; at evaluation the whole image.

Another location: `--cfg-options train_dataloader.dataset.path=PATH val_dataloader.dataset.path=PATH
test_dataloader.dataset.path=PATH`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.cifar import CifarDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import PackSample, RandomFlip, RandomResizedCrop, ResizeCenterCrop
from openvocab.metrics.classification import ZeroShotAccuracy

classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
train_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=CifarDataset,
        path="data/cifar-10-python.tar.gz",
        num_classes=10,
        part="train",
        pipeline=[
            dict(type=RandomResizedCrop, size=(224, 224), area=(0.05, 1.0), interpolation="bilinear"),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=CifarDataset,
        path="data/cifar-10-python.tar.gz",
        num_classes=10,
        part="test",
        test_mode=True,
        pipeline=[
            dict(type=ResizeCenterCrop, size=(224, 224), interpolation="bilinear"),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=ZeroShotAccuracy)
test_evaluator = val_evaluator
