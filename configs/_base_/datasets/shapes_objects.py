"""Single objects of Shapes, one folder per class: zero-shot classification, evaluation only.

`python tools/make_shapes.py` draws them.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.classification import ClassificationFolder
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.metrics.classification import ZeroShotAccuracy

val_dataloader = dict(
    batch_size=120,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=ClassificationFolder,
        root="data/shapes",
        images="objects/val",
        classes="classes.txt",
        class_options=dict(unseen="split.json", leave_out=["background"]),
        loading=dict(cache_images=True),
        test_mode=True,
        pipeline=[dict(type=LoadImage), dict(type=PackSample)],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type=ZeroShotAccuracy, templates="simple")
test_evaluator = val_evaluator
