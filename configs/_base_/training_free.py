"""What the training-free papers share, from SCLIP (arXiv 2312.01597) on: OpenAI's ViT-B/16, short side 336, windows of 224 px.

80 templates; all words of all classes in one softmax on the pixels of the original image; windows every 112 px. A data
set adds its words and, where it has a background, the thresholds of SC-CLIP (arXiv 2411.15869). Its readout is taken since
its constants are those of every dataset and of any weights. Others, and what their papers change: docs/training_free.md.
One departure: float32, in which every machine gives the same labels (official: float16 on a GPU).
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
