"""What grounding sets share: GLIP's image sizes, one caption per sample, recall of phrases.

The config of a dataset adds the files. Images whose caption has the word left or right are not mirrored.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.grounding import GroundingDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip, Resize
from openvocab.metrics.detection.phrases import PhraseRecall

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=GroundingDataset,
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=Resize, short_side=(480, 560, 640, 720, 800), max_long_side=1333, like="pillow"),
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
        type=GroundingDataset,
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=800, max_long_side=1333, like="pillow"),
            dict(type=LoadInstances),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=PhraseRecall)
test_evaluator = val_evaluator
