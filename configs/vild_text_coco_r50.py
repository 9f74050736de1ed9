"""ViLD-text on COCO, 48 base and 17 novel classes; its proposals are those of the teacher of `vild_coco_r50.py`.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921). The paper's
COCO schedule was not released; this is Mask R-CNN's short one: a ResNet-50 of ImageNet, batches of 16, SGD, rate 0.02,
90,000 iterations (13 epochs), short side 640 to 800. ViLD's differences from Mask R-CNN, as in
`vild_text_lvis_r50.py`: class-agnostic boxes and masks, four convolutions before the linear layer of the box head,
synchronized batch norms in it and in the pyramid, and box losses that are means over the offsets of the foreground
(Mask R-CNN: over everything that is sampled; --cfg-options model.head.detector.box_loss.mean=regions
model.head.detector.proposals.box_loss_mean=samples).
Command: torchrun --nproc_per_node 8 tools/train.py configs/vild_text_coco_r50.py --launcher pytorch
Hardware: 8 GPUs; time and memory not yet measured. Expected score: not yet measured. Paper (box AP50 of novel / base /
all): 5.9 / 61.8 / 47.2.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.datasets.transforms import Resize
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.coco_detection import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_steps import *

clip = dict(model="ViT-B-32-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="resnet50.tv_in1k", pretrained=True, trainable="all", norm_eval=True),
    text_encoder=dict(type=CLIPTextEncoder, templates="vild63", **clip),
    head=dict(
        type=ViLDHead,
        variant="text",
        temperature=0.01,
        detector=dict(
            pyramid=dict(layers=(1, 2, 3, 4), norm="batch"),  # strides 4 to 64
            proposals=dict(box_loss_mean="levels"),
            box_head=dict(convs=4, layers=1, norm="batch"),
            masks=dict(),
            box_loss=dict(mean="offsets"),
        ),
    ),
)

train_dataloader["sampler"]["batch_size"] = train_dataloader["batch_size"]
train_dataloader["dataset"]["pipeline"][2] = dict(
    type=Resize, short_side=(640, 672, 704, 736, 768, 800), max_long_side=1333
)
default_hooks["checkpoint"].update(interval=5_000, best="ovd_box_AP50_base")
sync_bn = "torch"
