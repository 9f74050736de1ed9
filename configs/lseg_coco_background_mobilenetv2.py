"""LSeg for photos, without a download: `lseg_coco_mobilenetv2.py` with names for the background, too.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), with a small ImageNet tower and CLIP ViT-B/32 rows of
"a {name}". A model whose training ignores the background finds things everywhere. This one learns 74 things, 13 kinds
of background and "other" (sky, wall, grass, ...) from the same 100 images; no class is held out, and things without a
row, food and pillows are ignored.
No row says "other". Its row is the mean of rows of words that name no other class here, given as its synonyms; a
prediction needs them, too: "cup | mug, table, other | desk | lamp | stairs | porch | poster | tower".
Command: python tools/train.py configs/lseg_coco_background_mobilenetv2.py && python tools/test.py
configs/lseg_coco_background_mobilenetv2.py work_dirs/lseg_coco_background_mobilenetv2/best.pth
Files: those of `lseg_coco_mobilenetv2.py`, and the Open Images rows next to its COCO rows.
Hardware: 2 CPU cores, 21 minutes on one thread next to other jobs. Expected score: 10.2 mIoU over all 88 names, 70.1
IoU of person, 67.9 of other, measured by the command above; docs/results.md has photos, and scores of more classes.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms import PhotometricDistortion

with read_base():
    from .lseg_coco_mobilenetv2 import *

classes = [
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "bench", "bird", "cat", "dog", "horse", "sheep", ["cow", "cattle"], "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", ["skis", "ski"], "snowboard",
    ["sports ball", "ball"], "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket",
    "bottle", "wine glass", ["cup", "coffee cup", "mug"], "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", ["donut", "doughnut"], "cake", "chair", "couch",
    ["potted plant", "houseplant"], "bed", "toilet", ["tv", "television"], "laptop", "mouse",
    ["keyboard", "computer keyboard"], ["cell phone", "mobile phone"], ["microwave", "microwave oven"], "oven",
    "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear",
    "table", "tree", "building", "house", "window", "door", "curtain", "shelf", ["cabinet", "cabinetry"], "flower",
    "fruit", "mirror", "towel", ["other", "desk", "lamp", "stairs", "porch", "poster", "tower"],
]  # fmt: skip
category_ids = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 31, 32, 33, 35, 36, 37,
    38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 70, 72,
    73, 74, 76, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88,
    67, 184, 197, 128, 181, 112, 109, 156, 188, 119, 122, 133, 168,
]  # fmt: skip
other_ids = [
    92, 93, 95, 100, 107, 118, 125, 130, 138, 144, 145, 147, 148, 149, 151, 154, 155, 159, 161, 166, 171, 175, 176,
    177, 178, 185, 186, 187, 190, 191, 192, 193, 194, 195, 198, 199, 200,
]  # fmt: skip
class_of_id = {category: index for index, category in enumerate(category_ids)}
class_of_id.update({189: classes.index("table"), 180: classes.index("window")})  # further tables, and blinds
class_of_id.update({category: len(classes) - 1 for category in other_ids})
labels = dict(label_ids=class_of_id, ignored_ids=[0], unlisted_ids="ignore")
all_classes = dict(unseen=None, train_classes="all")

model["text_encoder"].update(path=f"{data}/meta/text_embeddings/openimages500_vitb32_a.npy", names="openimages_500")
model["head"].update(learn_scale=True)

# Crops of 256 pixels instead of 320: a step has two thirds of the pixels.
train_dataloader["dataset"].update(classes=classes, labels=labels, class_options=all_classes)
train_dataloader["dataset"]["pipeline"][2].update(crop=(256, 256), short_side=(224, 480))
train_dataloader["dataset"]["pipeline"].insert(4, dict(type=PhotometricDistortion))
val_dataloader["dataset"].update(classes=classes, labels=labels, class_options=all_classes)
train_dataloader["num_workers"] = val_dataloader["num_workers"] = 1
test_dataloader = val_dataloader

max_iters = 600
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=300)
