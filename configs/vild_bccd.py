"""Blood cells: a user's own labels, a small network on a CPU, nothing downloaded.

Paper: the detector of Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv
2104.13921) with a fixed list of classes instead of texts, since CLIP hardly knows red and white cells and platelets.
Command: python tools/train.py configs/vild_bccd.py && python tools/test.py configs/vild_bccd.py work_dirs/vild_bccd/best.pth
The labels are the dataset's Pascal-VOC files, in which two boxes are empty: the log reports them. Its coco.json
(`annotations="coco.json"`) contains the same objects without these two.
Files: bccd/ (github.com/Shenggan/BCCD_Dataset) and weights/ (MobileNetV2 of TensorFlow under torchvision's names) below
../shared/data; in other folders: --cfg-options model.backbone.pretrained=FILE
train_dataloader.dataset.root=DIR (val_, test_).
Hardware: 2 CPU cores, 3 minutes. Expected score: box AP 53.3, AP50 89.4 on the 72 test images (measured
with torchvision's box losses, the default before ViLD's means).
"""

from mmengine.config import read_base

from openvocab.text.one_hot import OneHotTextEncoder

with read_base():
    from .vild_custom import *

data = "../shared/data"
mine = dict(root=f"{data}/bccd", images="BCCD/JPEGImages", annotations="BCCD/Annotations")
train_dataloader["dataset"].update(keys="BCCD/ImageSets/Main/train.txt", **mine)
val_dataloader["dataset"].update(keys="BCCD/ImageSets/Main/val.txt", **mine)
tested = dict(val_dataloader["dataset"], keys="BCCD/ImageSets/Main/test.txt")
test_dataloader = dict(val_dataloader, dataset=tested)

model["backbone"].update(
    pretrained=f"{data}/weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision_fp16.safetensors",
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    model_args=dict(pad_type="same"),  # trained in TensorFlow, whose stride-2 convolutions pad right and bottom
)
model["text_encoder"] = dict(type=OneHotTextEncoder, classes=["WBC", "RBC", "Platelets"])
model["head"]["temperature"] = 0.1

max_iters = 300
train_dataloader["dataset"]["pipeline"][2].update(short_side=(288, 320, 352, 384), max_long_side=640)
val_dataloader["dataset"]["pipeline"][1].update(short_side=384, max_long_side=640)
optim_wrapper["amp"] = "auto"
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=300)
default_hooks["checkpoint"].update(interval=300)
