"""Object Detection in the Wild (arXiv 2204.08790): one of its datasets; all 13 or 35 in a loop, and their mean.

Files: data/odinw/NAME/... as GLIP publishes them. `odinw_13.csv` and `odinw_35.csv`, next to this file, list the folder
of images and the file of labels that GLIP evaluates for each dataset (`valid`, or its smaller `mini_val`). The classes
are the categories of the file; GLIP's own evaluation names some of them in other words ("rabbit" for
"Cottontail-Rabbit"): `classes=[...]` with `labels=dict(category_ids=[...])`, the id of each in the file. Every dataset is
scored by COCO's AP, and the benchmark is their mean:

    n=0; while IFS=, read -r images annotations; do
        python tools/test.py CONFIG CHECKPOINT --out work_dirs/odinw/$((n=n+1)).json --cfg-options \
            "test_dataloader.dataset.images=$images" "test_dataloader.dataset.annotations=$annotations"
    done < configs/_base_/datasets/odinw_13.csv
    python -c 'import glob, json; s = [json.load(open(path))["coco_box_AP"] for path in
        glob.glob("work_dirs/odinw/*.json")]; print(len(s), sum(s) / len(s))'

Fine-tuning: all names in fixed order, on `train` of the same dataset (`fewshot_train_shot10_seed3.json` in the same
folder: 10 images per class). Another location: `--cfg-options train_dataloader.dataset.root=DIR
val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms import (
    DetectionPrompt,
    LoadImage,
    LoadInstances,
    PackSample,
    RandomFlip,
    Resize,
)

with read_base():
    from .objects365 import *

train_dataloader["dataset"].update(
    root="data/odinw",
    images="pothole/train",
    annotations="pothole/train/annotations_without_background.json",
    pipeline=[
        dict(type=LoadImage),
        dict(type=LoadInstances),
        dict(type=DetectionPrompt, tokenizer="hf-hub:google-bert/bert-base-uncased", all_names=True),
        dict(type=Resize, short_side=(480, 560, 640, 720, 800), max_long_side=1333, like="pillow"),
        dict(type=RandomFlip, prob=0.5),
        dict(type=PackSample),
    ],
)
val_dataloader["dataset"].update(
    root="data/odinw",
    images="pothole/valid",
    annotations="pothole/valid/annotations_without_background.json",
)
test_dataloader = val_dataloader
