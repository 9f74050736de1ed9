"""GoldG, GLIP's grounding data (arXiv 2112.03857): Flickr30k and the captions of Visual Genome and GQA, without COCO images.

Files: MDETR's annotations (arXiv 2104.12763), `final_mixed_train_no_coco.json` (of GLIP; MDETR's own
`final_mixed_train.json` has COCO images, too) and `final_flickr_separateGT_{train,val}.json`, in
data/mdetr_annotations; images in data/gqa/images, data/coco/train2014 and data/flickr30k/flickr30k-images.
Training: all captions of both files in random order, as in official GLIP. Evaluation: Flickr30k's validation part.

Another location: `--cfg-options val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR
train_dataloader.dataset.datasets.0.root=DIR train_dataloader.dataset.datasets.1.root=DIR`.
"""

from mmengine.config import read_base

from openvocab.datasets.mixed import MixedDataset

with read_base():
    from .grounding import *

goldg = [
    dict(
        train_dataloader["dataset"],
        root="data",
        images=dict(coco="coco/train2014", vg="gqa/images"),
        annotations="mdetr_annotations/final_mixed_train_no_coco.json",
    ),
    dict(
        train_dataloader["dataset"],
        root="data",
        images="flickr30k/flickr30k-images",
        annotations="mdetr_annotations/final_flickr_separateGT_train.json",
    ),
]
train_dataloader["dataset"] = dict(type=MixedDataset, datasets=goldg)
val_dataloader["dataset"].update(
    root="data",
    images="flickr30k/flickr30k-images",
    annotations="mdetr_annotations/final_flickr_separateGT_val.json",
)
test_dataloader = val_dataloader
