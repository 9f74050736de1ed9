"""Classification of your own images: one folder per class, and a file of class names, one per line.

The names file lists the classes in any order, `name; synonym; synonym` per line; each class needs a folder with its
first name (`folders` gives others, such as WordNet ids). Images are cropped to 224 px as in CLIP.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.classification import ClassificationFolder
from openvocab.datasets.transforms import LoadImage, PackSample, ResizeCenterCrop
from openvocab.metrics.classification import ZeroShotAccuracy

test_dataloader = dict(
    batch_size=64,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=ClassificationFolder,
        images="data/folder",
        classes="data/folder/classes.txt",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=ResizeCenterCrop, size=(224, 224)),
            dict(type=PackSample),
        ],
    ),
)
test_evaluator = dict(type=ZeroShotAccuracy)
