"""GLIP on Shapes: boxes from names and from captions at once, by one alignment of locations with words.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857), here on the backbone and the words of the tiny CLIP that
`clip_shapes.py` trains: our shared-backbone variant, since official GLIP has Swin and BERT. Half of the samples are
detection data as text (36 base classes), half are captions with phrases.
Command: python tools/train.py configs/glip_shapes.py && python tools/test.py configs/glip_shapes.py
work_dirs/glip_shapes/best.pth; recall of phrases: python tools/test.py configs/glip_shapes_phrases.py
work_dirs/glip_shapes/best.pth
Files: data/shapes (tools/make_shapes.py) and work_dirs/clip_shapes/last.pth (clip_shapes.py).
Hardware: 2 CPU cores. Expected: not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.mixed import MixedDataset
from openvocab.datasets.mixed_sampler import MixedSampler
from openvocab.datasets.transforms import DetectionPrompt, LoadImage, LoadInstances, PackSample, RandomFlip
from openvocab.engine.muon import Muon
from openvocab.heads.glip import GLIPHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.phrase_text import PhraseTextEncoder

with read_base():
    from ._base_.datasets.shapes_detection import *
    from ._base_.datasets.shapes_grounding import train_dataloader as captions
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

clip = dict(model="ConvNet-8-shapes", pretrained="work_dirs/clip_shapes/last.pth")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="all", **clip),
    text_encoder=dict(type=PhraseTextEncoder, encoder=dict(type=CLIPTextEncoder, templates="none", **clip)),
    head=dict(
        type=GLIPHead,
        pyramid=dict(layers=(2, 3), dim=64, extra_levels=1, extra="retinanet"),  # strides 4, 8 and 16
        tower=dict(num_blocks=3, text_heads=4, fusion_heads=4, fusion_head_dim=32),
        anchor_scale=5,
        detections=dict(min_score=0.0),
    ),
)

boxes = train_dataloader["dataset"]
boxes.update(
    with_masks=False,
    # not cropped, as the captions are not: one batch holds both
    pipeline=[
        dict(type=LoadImage),
        dict(type=LoadInstances),
        dict(type=DetectionPrompt, tokenizer="ConvNet-8-shapes", num_negatives=20, budget=254),
        dict(type=RandomFlip, prob=0.5),
        dict(type=PackSample),
    ],
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type=MixedSampler, weights=[1, 1]),
    dataset=dict(type=MixedDataset, datasets=[boxes, captions["dataset"]]),
)
val_dataloader["dataset"]["with_masks"] = False
val_evaluator["masks"] = False
test_dataloader, test_evaluator = val_dataloader, val_evaluator

max_iters, warmup_iters = 3000, 100
optim_wrapper["optimizer"] = dict(type=Muon, lr=2e-3, weight_decay=0.05)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=500)
default_hooks["checkpoint"].update(interval=500, best="ovd_box_AP50_base")
