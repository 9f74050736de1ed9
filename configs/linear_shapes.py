"""A linear probe on Shapes: a linear classifier of single objects on the frozen tower of the tiny CLIP.

Paper: the probes of Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020), section 3.2;
theirs is a logistic regression, this is the same model trained by gradient descent. The linear map ends in the space of the frozen
text rows, which loses nothing (48 classes, 128 dimensions). Training and test objects are drawn with different seeds, so the
figure is comparable with the zero-shot top1 of `clip_shapes.py` on the same test objects. `--cfg-options
model.backbone.trainable=all` fine-tunes the tower too.
Command: python tools/make_shapes.py --root data/shapes_probe --seed 1 --num-train 0 --num-val 0 --objects-per-class 100 &&
python tools/train.py configs/linear_shapes.py
Hardware: 2 CPU cores, 2 minutes. Expected score: top1 52.2 ± 1.6 over 48 classes (three seeds), by python tools/test.py configs/linear_shapes.py work_dirs/linear_shapes/best.pth
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.classification import ClassificationFolder
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, PackSample, RandomFlip
from openvocab.heads.linear import LinearHead
from openvocab.metrics.classification import ZeroShotAccuracy
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

clip = dict(model="ConvNet-8-shapes", pretrained="work_dirs/clip_shapes/last.pth")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="simple", **clip),
    head=dict(type=LinearHead, source="image_embed", label_smoothing=0.1),
)

train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=ClassificationFolder,
        root="data/shapes_probe",
        images="objects/val",
        classes="classes.txt",
        class_options=dict(leave_out=["background"]),
        loading=dict(cache_images=True),
        pipeline=[dict(type=LoadImage), dict(type=RandomFlip), dict(type=PackSample)],
    ),
)
val_dataloader = dict(
    batch_size=120,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=ClassificationFolder,
        root="data/shapes",
        images="objects/val",
        classes="classes.txt",
        class_options=dict(leave_out=["background"]),
        loading=dict(cache_images=True),
        test_mode=True,
        pipeline=[dict(type=LoadImage), dict(type=PackSample)],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=ZeroShotAccuracy)
test_evaluator = val_evaluator

max_iters, warmup_iters = 600, 50
optim_wrapper["optimizer"].update(lr=1e-2, weight_decay=0.01)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=200)
default_hooks["checkpoint"].update(best="top1", interval=200)
