"""ViLD-text on real pixels without a download: MobileNetV2 and CLIP text rows from files, 128 COCO images, on a CPU.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921), with a small
ImageNet tower instead of its ResNet-50, and without its teacher: CLIP's image tower is not among the files. Training:
boxes of the 48 base classes of open-vocabulary COCO; test: 65 classes in 128 other images.
Command: python tools/train.py configs/vild_coco_mobilenetv2.py && python tools/test.py
configs/vild_coco_mobilenetv2.py work_dirs/vild_coco_mobilenetv2/best.pth
Files: coco_sample/, weights/ and meta/ below ../shared/data; in other folders: --cfg-options model.backbone.pretrained=FILE
model.text_encoder.path=FILE and train_dataloader.dataset.root=DIR (val_, test_).
Hardware: 2 CPU cores, 7 minutes. Expected score: box AP50 base 5.0, novel 1.1, by the second command
(measured with torchvision's box losses, the default before ViLD's means).
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.text.precomputed import PrecomputedTextEncoder

with read_base():
    from ._base_.datasets.coco_sample_detection import *
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
        type=ViLDHead,
        variant="text",
        temperature=0.02,
        detector=dict(
            pyramid=dict(layers=(2, 3, 4), dim=128, extra_levels=1, norm="group"),  # strides 8 to 64
            proposals=dict(anchor_sizes=(32, 64, 128, 256), pre_nms_top_n=(500, 500), post_nms_top_n=(300, 300)),
            box_head=dict(convs=0, layers=2, dim=512),
            sampling=dict(batch_size_per_image=128),
        ),
    ),
)

max_iters = 1000
train_dataloader["dataset"]["root"] = f"{data}/coco_sample"
val_dataloader["dataset"]["root"] = f"{data}/coco_sample"
test_dataloader = val_dataloader
optim_wrapper["optimizer"].update(lr=1e-3)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = 100
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=500)
default_hooks["checkpoint"].update(interval=500, best="ovd_box_AP50_base")
