"""ViLD-text on your own objects: a COCO file (or YOLO or Pascal-VOC labels), your own names, a small network.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921), without its
teacher: the frozen texts of CLIP and a small ImageNet tower. At test time, any other names can be used.
Command: see "Your own objects" in the README; with data/custom as `_base_/datasets/custom_detection.py` describes it,
python tools/train.py configs/vild_custom.py && python tools/test.py configs/vild_custom.py work_dirs/vild_custom/best.pth
Files: weights of the tower (timm) and of CLIP (open_clip) are downloaded, or give files: --cfg-options
model.backbone.pretrained=FILE model.text_encoder.pretrained=FILE. With a fixed list of classes instead of CLIP's
texts, it is an ordinary detector, such as `vild_bccd.py`.
Hardware: 2 CPU cores or any GPU. Expected score: depends on your data, not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.custom_detection import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_poly import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="mobilenetv2_100", pretrained=True, norm_eval=True),
    text_encoder=dict(type=CLIPTextEncoder, model="ViT-B-32-quickgelu", pretrained="openai", templates="simple"),
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

max_iters = 2000
optim_wrapper["optimizer"].update(lr=5e-4)
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = 100
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=500)
default_hooks["checkpoint"].update(interval=500, best="coco_box_AP50", max_keep=1)
