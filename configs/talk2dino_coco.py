"""Talk2DINO's network between CLIP's texts and DINOv2's patches, trained on the captions of COCO; tested on PASCAL VOC.

Paper: Talk to DINO (arXiv 2411.19331), ViT-B/14 with registers: Adam 1e-4, batches of 128, 100 epochs, towers frozen.
Command: python tools/train.py configs/talk2dino_coco.py
Departures: images are squashed to 448 px without antialiasing, by the resize that training and test share here (the
paper's code antialiases; COCO's 640 px are shrunk by less than a third); the loss is the mean over a batch (official: divided
by the batch size once more, a factor that Adam cancels).
Files: data/coco/{train2014,val2014} and Karpathy's dataset_coco.json there.
With a file of the official network: --cfg-options model.head.pretrained=FILE, and tools/test.py without a checkpoint
Hardware: one GPU. Expected score: not yet measured. Published mIoU: 65.8 with background cleaning on VOC21 (37.7
Context60, 45.1 Object, 88.5 VOC20, 42.4 Context59, 30.2 Stuff, 38.1 Cityscapes, 22.5 ADE).
"""

from mmengine.config import read_base
from torch.optim import Adam

from openvocab.backbones.dino import DINOBackbone
from openvocab.datasets.captions import CaptionDataset
from openvocab.datasets.transforms import LoadImage, PackSample, Resize
from openvocab.heads.talk2dino import Talk2DINOHead
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.pascal_voc import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(
        type=DINOBackbone,
        model="vit_base_patch14_reg4_dinov2.lvd142m",
        pretrained=True,
        position_resize="bicubic",
        class_attention=True,
    ),
    text_encoder=dict(
        type=CLIPTextEncoder,
        model="ViT-B-16-quickgelu",
        pretrained="openai",
        templates="imagenet7",
        normalize_templates=False,
        final_norm=False,
    ),
    head=dict(type=Talk2DINOHead, background_score=0.55, background_cleaning=True),
    inference=dict(
        type=UnpaddedSlidingWindow,
        window=448,
        stride=224,
        patch_size=14,
        align_corners=True,
        pamr_dilations=(1, 2, 4, 8, 12, 24),
    ),
)

train_dataloader["batch_size"] = 128
train_dataloader["drop_last"] = True
train_dataloader["dataset"] = dict(
    type=CaptionDataset,
    root="data/coco",
    annotations="dataset_coco.json",
    split=["train", "restval"],
    pipeline=[dict(type=LoadImage), dict(type=Resize, size=(448, 448)), dict(type=PackSample)],
)
val_dataloader["dataset"]["pipeline"][1].update(short_side=448)
test_dataloader = val_dataloader

# 100 epochs of 113,287 images; no warm-up, no decay, a constant rate
max_iters = 88_500
optim_wrapper["optimizer"] = dict(type=Adam, lr=1e-4)
optim_wrapper["paramwise_cfg"] = None
optim_wrapper["clip_grad"] = None
param_scheduler = []
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
