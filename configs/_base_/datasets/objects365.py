"""Objects365 (ICCV 2019) as text: 365 classes, those of an image and up to 85 others named in its prompt, as in GLIP.

Files: data/objects365/{train,val}/*.jpg and data/objects365/objects365_{train,val}.json, COCO's format as published
(version 1, 0.6 million images, is the one of the GLIP paper). The classes are the categories of the file. `tokenizer`
must be that of the text encoder: its folder, `hf-hub:OWNER/NAME`, or the name of an open_clip model.
Evaluation: COCO's AP over all classes.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import (
    DetectionPrompt,
    LoadImage,
    LoadInstances,
    PackSample,
    RandomFlip,
    Resize,
)
from openvocab.metrics.detection.average_precision import CocoAveragePrecision

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=DetectionDataset,
        root="data/objects365",
        images="train",
        annotations="objects365_train.json",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=DetectionPrompt, tokenizer="hf-hub:google-bert/bert-base-uncased"),
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
        type=DetectionDataset,
        root="data/objects365",
        images="val",
        annotations="objects365_val.json",
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

val_evaluator = dict(type=CocoAveragePrecision)
test_evaluator = val_evaluator
