"""Your own objects: a folder of images and their boxes.

`annotations` may be a COCO JSON file, a folder of YOLO text files (then `classes` is its data.yaml or a list of names)
or a folder of Pascal-VOC XML files. The classes are those of the JSON or XML files; `classes=[...]` orders them, drops
some (with `labels=dict(unlisted_ids="ignore")`) or adds synonyms: each entry contains the name in the file. One folder
of images is divided into two parts with `keys`, a text file with one image name per line. Files:
data/custom/{train,val}/ and data/custom/{train,val}.json; another location: `--cfg-options train_dataloader.dataset.root=DIR
val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.detection_sampler import DetectionSampler
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip, Resize
from openvocab.metrics.detection.average_precision import CocoAveragePrecision

train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=DetectionSampler, batch_size=4),  # batches of similar shapes: little padding
    dataset=dict(
        type=DetectionDataset,
        root="data/custom",
        images="train",
        annotations="train.json",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadInstances),
            dict(type=Resize, short_side=(480, 512, 544, 576, 608, 640), max_long_side=1066),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=DetectionDataset,
        root="data/custom",
        images="val",
        annotations="val.json",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=640, max_long_side=1066),
            dict(type=LoadInstances),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=CocoAveragePrecision)
test_evaluator = val_evaluator
