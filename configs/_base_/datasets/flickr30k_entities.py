"""Flickr30k Entities (arXiv 1505.04870): captions with boxes of their phrases, 29,783 / 1,000 / 1,000 images.

Files: data/flickr30k/flickr30k-images/*.jpg, and the repository flickr30k_entities with its annotations.zip unpacked
(Sentences/, Annotations/, train.txt, val.txt, test.txt) in data/flickr30k/flickr30k_entities.
Evaluation: recall at 1, 5 and 10 of each phrase with boxes, any of its boxes counts; for MDETR's other protocol
`--cfg-options test_evaluator.boxes=merged`.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .grounding import *

flickr30k = dict(root="data/flickr30k", images="flickr30k-images", annotations="flickr30k_entities")
train_dataloader["dataset"].update(keys="flickr30k_entities/train.txt", **flickr30k)
val_dataloader["dataset"].update(keys="flickr30k_entities/val.txt", **flickr30k)
test_dataloader = dict(val_dataloader, dataset=dict(val_dataloader["dataset"], keys="flickr30k_entities/test.txt"))
