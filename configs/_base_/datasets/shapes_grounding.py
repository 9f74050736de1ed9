"""Shapes with captions whose phrases have boxes: 64 px scenes of colored forms; 12 of 48 pairs are not in training.

`python tools/make_shapes.py` writes it to data/shapes (and completes a folder of an earlier version). Another location:
`--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
Training: the captions of the 6,000 images with labels, whose phrases name seen pairs only. Scenes are not cropped: the
captions say where objects are. Evaluation: recall of all phrases, and of those that name a seen or an unseen pair;
only captions with an unseen pair: `--cfg-options test_dataloader.dataset.phrase_type=unseen`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.grounding import GroundingDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip
from openvocab.metrics.detection.phrases import PhraseRecall

train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=GroundingDataset,
        root="data/shapes",
        images="images/train",
        annotations="grounding_v1_train.jsonl",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)

val_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=GroundingDataset,
        root="data/shapes",
        images="images/val",
        annotations="grounding_v1_val.jsonl",
        test_mode=True,
        pipeline=[dict(type=LoadImage), dict(type=LoadInstances), dict(type=PackSample)],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=PhraseRecall)
test_evaluator = val_evaluator
