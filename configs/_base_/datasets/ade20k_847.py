"""ADE20K-Full, 847 classes: data/ADE20K_2021_17_01/{images,annotations}_detectron2/{training,validation}.

The label maps are 16-bit TIFFs as MaskFormer's preparation script writes them: 0..846, 65535 where unlabeled.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_maps import *

files = dict(root="data/ADE20K_2021_17_01", classes="ade20k_847")
train_dataloader["dataset"].update(
    images="images_detectron2/training", annotations="annotations_detectron2/training", **files
)
val_dataloader["dataset"].update(
    images="images_detectron2/validation",
    annotations="annotations_detectron2/validation",
    **files,
)
test_dataloader = val_dataloader
