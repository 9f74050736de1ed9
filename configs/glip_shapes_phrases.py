"""Recall of the phrases of captions on Shapes, of a model that `glip_shapes.py` has trained.

Command: python tools/test.py configs/glip_shapes_phrases.py work_dirs/glip_shapes/best.pth
Files: data/shapes (tools/make_shapes.py). Only captions with an unseen pair:
--cfg-options test_dataloader.dataset.phrase_type=unseen.
Hardware: 2 CPU cores. Expected: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.shapes_grounding import test_dataloader as phrases
    from ._base_.datasets.shapes_grounding import test_evaluator as recall
    from .glip_shapes import *

val_dataloader = test_dataloader = phrases
val_evaluator = test_evaluator = recall
