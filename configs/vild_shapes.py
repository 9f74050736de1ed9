"""ViLD-ensemble on Shapes: labels of 36 classes for one branch, CLIP's embeddings of proposals for the other.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921), at small scale. CLIP
embeds the proposals of `vild_text_shapes.py`.
Command: python tools/train.py configs/vild_text_shapes.py && python tools/cache_region_embeddings.py
configs/vild_shapes.py && python tools/train.py configs/vild_shapes.py && python tools/test.py configs/vild_shapes.py
work_dirs/vild_shapes/best.pth
The other rows of the paper's table: --cfg-options model.head.variant=vild (or image) --work-dir DIR; base 78.9, novel 74.6
(29.5, 26.7).
Files: data/shapes (tools/make_shapes.py) and work_dirs/clip_shapes/last.pth (clip_shapes.py).
Hardware: 2 CPU cores, 19 minutes in all. Expected score: box AP50 base 79.6 ± 3.8, novel 64.4 ± 4.8 (three
seeds).
"""

from mmengine.config import read_base

from openvocab.teacher import LoadRegions
from openvocab.teacher.detector_proposals import DetectorProposals

with read_base():
    from .vild_text_shapes import *

teacher = dict(
    **clip,
    crop="squash",  # in the images of single objects that this CLIP was trained on, the object fills the frame
    dtype="auto",
    proposals=dict(
        type=DetectorProposals,
        config="configs/vild_text_shapes.py",
        checkpoint="work_dirs/vild_text_shapes/last.pth",
        per_image=12,
        max_overlap=0.5,
    ),
    folder="work_dirs/vild_shapes_regions",
)
model["head"].update(variant="ensemble", distill_weight=0.1)  # official: 0.5; docs/results.md
train_dataloader["dataset"]["pipeline"].insert(2, dict(type=LoadRegions, teacher=teacher))
