"""Flickr30k's captions in Karpathy's split (arXiv 1412.2306), for retrieval: the 1,000 test images, evaluation only.

Files: data/flickr30k/dataset_flickr30k.json of Karpathy's caption_datasets.zip, and the images in
data/flickr30k/flickr30k-images.

Another location: `--cfg-options test_dataloader.dataset.root=DIR/flickr30k-images`.
"""

from mmengine.config import read_base

with read_base():
    from .karpathy_coco import *

test_dataloader["dataset"].update(root="data/flickr30k/flickr30k-images", annotations="../dataset_flickr30k.json")
