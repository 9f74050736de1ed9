"""GLIP-T on Flickr30k Entities: recall of the phrases of captions.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). As officially, a phrase is found if any of its boxes is
(`separate`), the labels are MDETR's (arXiv 2104.12763), and 100 detections per caption are kept.
Command: python tools/convert_checkpoint.py glip glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.pth && python tools/test.py
configs/glip_t_flickr30k.py glip_t.pth
Validation part: --cfg-options test_dataloader.dataset.annotations=mdetr_annotations/final_flickr_separateGT_val.json
Files: see `_base_/datasets/goldg.py`, and final_flickr_separateGT_test.json of the same folder.
Hardware: one GPU. Expected score: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.goldg import test_dataloader, test_evaluator
    from ._base_.glip_tiny import *
    from ._base_.runtime import *

test_dataloader["dataset"]["annotations"] = "mdetr_annotations/final_flickr_separateGT_test.json"
val_dataloader, val_evaluator = test_dataloader, test_evaluator
