"""ViLD-ensemble on LVIS as in DetPro's port: from a pretrained ResNet, 20 epochs on 8 GPUs.

Paper: ViLD (arXiv 2104.13921), port in DetPro (arXiv 2203.14940, there "ViLD*"). Its recipe: batches of 16, SGD,
rate 0.02, a tenth of that after 16 of 20 epochs, decay 2.5e-5, short side 640 to 800, repeat factors 0.001, one fully
connected layer in the box head, L1 loss of the boxes, temperature 0.007 at test.
Departures: CLIP embeds the proposals of `vild_text_lvis_r50.py` (the cache of `vild_lvis_r50.py`; DetPro: a ResNet-101); an
epoch counts as 8,000 iterations; only parts of the network start from pretrained weights (DetPro: all, from SoCo's detector);
norms and biases are not decayed; proposals have torchvision's smooth L1 loss (DetPro: L1); 63 templates instead of 74.
Start weights: a ResNet-50 with its strides in the 1x1 convolutions, with torchvision's names, see `pretrained` below.
Command: after that cache, torchrun --nproc_per_node 8 tools/train.py configs/vild_lvis_r50_detpro.py --launcher pytorch
DetPro's weights: python tools/convert_checkpoint.py detpro vild_ens_20e.pth vild_detpro.pth && python tools/test.py
configs/vild_lvis_r50_detpro.py vild_detpro.pth
Files: see `_base_/datasets/lvis_detection.py`; DetPro's weights are linked at github.com/dyabel/detpro.
Hardware: 8 GPUs; time and memory not yet measured. Expected score: not yet measured. Published by DetPro: mask AP 25.2,
AP_r 16.8, AP_c 25.6, AP_f 28.5.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, RandomFlip, Resize
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.teacher import LoadRegions
from openvocab.teacher.detector_proposals import DetectorProposals
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.lvis_detection import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_steps import *

clip = dict(model="ViT-B-32-quickgelu", pretrained="openai")
teacher = dict(
    **clip,
    crop="center",
    scales=(1.0, 1.5),
    proposals=dict(
        type=DetectorProposals,
        config="configs/vild_text_lvis_r50.py",
        checkpoint="work_dirs/vild_text_lvis_r50/last.pth",
        per_image=300,
    ),
    folder="work_dirs/vild_lvis_regions",
)
model = dict(
    type=OpenVocabModel,
    backbone=dict(
        type=TimmBackbone,
        model="resnet50",
        pretrained="data/weights/resnet50_caffe.pth",
        resnet_style="caffe",
        trainable="all",
        norm_eval=True,
    ),
    text_encoder=dict(type=CLIPTextEncoder, templates="vild63", **clip),
    head=dict(
        type=ViLDHead,
        variant="ensemble",
        temperature=0.01,
        test_temperature=0.007,
        distill_weight=0.5,
        detector=dict(
            pyramid=dict(layers=(1, 2, 3, 4), norm="batch"),  # strides 4 to 64
            align=dict(sampling_ratio=0),
            box_head=dict(convs=4, layers=1, norm="batch"),
            masks=dict(),
            proposals=dict(box_loss_mean="samples"),
            box_loss=dict(beta=0.0, mean="regions"),
            mask_loss=dict(max_regions=512),
            detections=dict(min_score=1e-4),
        ),
    ),
)

max_iters = 160_000
train_dataloader["batch_size"] = 2
train_dataloader["sampler"].update(repeat_threshold=0.001, batch_size=2)
train_dataloader["dataset"]["pipeline"] = [
    dict(type=LoadImage),
    dict(type=LoadInstances),
    dict(type=LoadRegions, teacher=teacher),
    dict(type=Resize, short_side=(640, 672, 704, 736, 768, 800), max_long_side=1333),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackSample),
]
optim_wrapper["optimizer"].update(lr=0.02, weight_decay=2.5e-5)
param_scheduler[0].update(start_factor=1e-3, end=500)
param_scheduler[1]["milestones"] = [128_000]
train_cfg.update(max_iters=max_iters, val_interval=20_000)
default_hooks["checkpoint"].update(interval=5_000, best="lvis_mask_AP")
sync_bn = "torch"
