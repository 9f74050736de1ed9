"""COCO's captions in Karpathy's split (arXiv 1412.2306), for retrieval: the 5,000 test images, evaluation only.

Files: data/coco/dataset_coco.json of Karpathy's caption_datasets.zip, and the images in data/coco/val2014. An image's first
five captions count, 25,000 in all (see `RetrievalRecall`).

Another location: `--cfg-options test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.captions import CaptionDataset
from openvocab.datasets.transforms import LoadImage, PackSample, ResizeCenterCrop
from openvocab.metrics.retrieval import RetrievalRecall

test_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=CaptionDataset,
        root="data/coco",
        annotations="dataset_coco.json",
        split="test",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=ResizeCenterCrop, size=(224, 224)),
            dict(type=PackSample),
        ],
    ),
)
test_evaluator = dict(type=RetrievalRecall)
