"""GroupViT evaluated on PASCAL VOC 2012, as in the paper: background below the threshold 0.95, windows of 448 px.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094).
Command: python tools/convert_checkpoint.py groupvit group_vit_gcc_yfcc_30e.pth groupvit.pth &&
python tools/test.py configs/groupvit_voc.py groupvit.pth
The RedCaps weights, and those of Hugging Face (hf-hub:nvidia/groupvit-gcc-yfcc instead of the .pth, or its folder):
--cfg-options model.head.multi_label.num_prompts=0. For the simpler protocol without a threshold, in which the background
competes as a name: --cfg-options model.head.scoring.background_threshold=None
Hardware: one GPU. Expected score: not yet measured. Published: 52.3 and 50.8 mIoU (CC and YFCC; CC and RedCaps).
"""

from mmengine.config import read_base

from openvocab.backbones.patch_embedding import PatchEmbedding
from openvocab.heads.groupvit import GroupViTHead
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.groupvit_voc import *
    from ._base_.runtime import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=PatchEmbedding, width=384, patch_size=16, image_size=224),
    text_encoder=dict(type=CLIPTextEncoder, model="GroupViT", projector=(4096, 256), templates="simple"),
    head=dict(
        type=GroupViTHead,
        transformer=dict(depths=(6, 3, 3), num_groups=(64, 8, 0)),
        multi_label=dict(num_prompts=3),
        scoring=dict(background_threshold=0.95),
    ),
    inference=dict(type=UnpaddedSlidingWindow, window=448, stride=224),
)
