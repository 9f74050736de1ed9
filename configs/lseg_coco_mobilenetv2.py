"""LSeg on real pixels without a download: MobileNetV2 and CLIP text rows from files, 200 COCO images, on a CPU.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), with a small ImageNet tower instead of its ViT-L/16
and CLIP ViT-B/32 rows of "a {name}" instead of its text tower. Training: pixels of the 48 base classes of
open-vocabulary COCO in 100 images; test: all 65 classes in 100 others, ignoring pixels of other things and of stuff.
Command: python tools/train.py configs/lseg_coco_mobilenetv2.py && python tools/test.py
configs/lseg_coco_mobilenetv2.py work_dirs/lseg_coco_mobilenetv2/best.pth
Files: coco_sample/, weights/ and meta/ below ../shared/data; in other folders: --cfg-options model.backbone.pretrained=FILE
model.text_encoder.path=FILE and train_dataloader.dataset.root=DIR (val_, test_).
Hardware: 2 CPU cores, 11 minutes. Expected score: base mIoU 13.8, novel 0.0 (3.8 with model.head.seen_penalty=2), measured by
the command above; docs/results.md explains why, and has the baseline without training (conse_coco_mobilenetv2.py).
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.precomputed import PrecomputedTextEncoder

with read_base():
    from ._base_.datasets.coco_sample import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_poly import *

data = "../shared/data"
model = dict(
    type=OpenVocabModel,
    backbone=dict(
        type=TimmBackbone,
        model="mobilenetv2_100",
        pretrained=f"{data}/weights/mobilenet_v2_imagenet/mobilenet_v2_torchvision_fp16.safetensors",
        trainable="none",
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        model_args=dict(pad_type="same"),  # trained in TensorFlow, whose stride-2 convolutions pad right and bottom
    ),
    text_encoder=dict(
        type=PrecomputedTextEncoder,
        path=f"{data}/meta/text_embeddings/coco80_vitb32_a.npy",
        names="coco_80",
        templates_note="a {}, OpenAI ViT-B/32",
    ),
    head=dict(
        type=LSegHead,
        layers=(2, 3, 4),  # strides 8 to 32; stride 4 would double the time
        decoder=dict(factors=None, features=128),
        loss_size="head",
    ),
)

max_iters = 1500
train_dataloader["dataset"]["root"] = f"{data}/coco_sample"
val_dataloader["dataset"]["root"] = f"{data}/coco_sample"
test_dataloader = val_dataloader
optim_wrapper["optimizer"].update(lr=1e-3)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = 100
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=500)
