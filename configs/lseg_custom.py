"""LSeg on your own label maps: a few hundred photos, one small GPU or a CPU; any names at test time.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), in our shared-backbone variant: both towers are OpenAI's
CLIP ViT-B/16 (MIT license). The image tower is frozen but for its last four blocks, which saves memory and time, and
keeps what it knows about names without labels; the decoder is half as wide as the paper's.
Command: with data/custom as `_base_/datasets/custom_segmentation.py` describes it,
python tools/train.py configs/lseg_custom.py && python tools/test.py configs/lseg_custom.py work_dirs/lseg_custom/best.pth
or, for data in any common format, openvocab train --data my.yaml --head lseg.
Length: 50 passes over the images, 300 steps at least and 20,000 at most, with eight validations. A shorter run:
--cfg-options run_length.passes=20, or run_length.minutes=20, which measures the first steps and ends in time.
Hardware: a step of four crops takes 8 s of one CPU core in bfloat16 and 3.3 GB of memory; a GPU is
not yet measured. Expected score: depends on your data, not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.engine.train_loop import TrainLoop
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.custom_segmentation import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_poly import *

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable=4, position_resize="bilinear", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="simple", **clip),
    head=dict(
        type=LSegHead,
        layers=(3, 6, 9, 12),
        decoder=dict(factors=(4, 2, 1, 0.5), dims=(96, 192, 384, 768), features=128),
    ),
)

# The schedules are written for 1000 steps, 50 of them warm-up, and stretched to the length of the run.
run_length = dict(schedule=1000, passes=50, min_iters=300, max_iters=20_000, validations=8)
train_cfg = dict(type=TrainLoop)
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = 50
param_scheduler[1]["end"] = 1000
optim_wrapper["optimizer"].update(lr=5e-4)
optim_wrapper["amp"] = "auto"
# with the text tower and the optimizer a checkpoint has a gigabyte: the newest and the best are kept
default_hooks["checkpoint"].update(interval=None, best="mIoU", max_keep=1)
default_hooks["logger"].update(interval=20)
