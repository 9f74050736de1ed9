"""Your own label maps: a folder of images, a folder of label maps, and the names of the classes.

A label map is a PNG with one channel, named like its image; the value of a pixel is the number of its class in the
list, from 0. 255 means unlabeled: such pixels are neither trained on nor counted. A class of everything else is a class
like the others: give it a number and a name ("other"), and name it in `class_options=dict(background="other")`, so that
averages over seen and unseen classes exclude it. Pixels that nobody looked at are 255, not "other". Masks in which 0
means unlabeled: `labels=dict(reduce_zero_label=True)`.

Training takes crops of 384 pixels from images whose short side is resized to 288 to 768; a test resizes it to 512.
Files: data/custom/{images,labels}/{train,val}/ and data/custom/names.txt; another location: `--cfg-options
train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_maps import *

train_dataloader.update(num_workers=2)
train_dataloader["dataset"].update(
    root="data/custom", classes="names.txt", images="images/train", annotations="labels/train"
)
train_dataloader["dataset"]["pipeline"][2].update(crop=(384, 384), short_side=(288, 768))
val_dataloader.update(num_workers=2)
val_dataloader["dataset"].update(root="data/custom", classes="names.txt", images="images/val", annotations="labels/val")
test_dataloader = val_dataloader
