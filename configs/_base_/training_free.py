"""Shared by the training-free papers since SCLIP (arXiv 2312.01597): OpenAI's ViT-B/16, short side 336, windows of 224 px.

80 templates; one softmax over all names of all classes on the pixels of the original image; windows every 112 px. A dataset
config adds its names and, if it has a background, the thresholds of SC-CLIP (arXiv 2411.15869). SC-CLIP's readout is used since its
constants are the same for every dataset and any weights. For others, and what their papers change, see docs/training_free.md.
One departure: float32, with which every machine gives the same labels (official: float16 on a GPU).
"""

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, Resize
from openvocab.heads.training_free import TrainingFreeHead
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, readout="scclip", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="imagenet80", **clip),
    head=dict(type=TrainingFreeHead, logit_scale=40.0),
    inference=dict(type=UnpaddedSlidingWindow, window=224, stride=112, patch_size=16),
)
pipeline = [
    dict(type=LoadImage),
    dict(type=Resize, short_side=336, max_long_side=2048),
    dict(type=LoadLabels),
    dict(type=PackSample),
]
