"""ADE20K, 150 classes (arXiv 1608.05442): data/ADEChallengeData2016/{images,annotations}/{training,validation}.

Training as in LSeg's official code: the long side is resized to a random 260..1040 (0.5 to 2 times 520), and the image
is padded, cropped to 480 and flipped. One departure: the official code resizes with Pillow, which antialiases when it
shrinks; here OpenCV resizes without antialiasing, as in mmsegmentation, and only the crop, in an eighth of the time.
Evaluation: short side 512, scores in the original frame. For LSeg's multi-scale evaluation, which scales the original
image, see `configs/lseg_ade_multi_scale.py`.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.dataset import DefaultSampler

from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample, RandomFlip, RandomScaleCrop, Resize
from openvocab.metrics.mean_iou import MeanIoU

train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=SegmentationDataset,
        root="data/ADEChallengeData2016",
        classes="ade20k_150",
        labels=dict(reduce_zero_label=True),
        images="images/training",
        annotations="annotations/training",
        pipeline=[
            dict(type=LoadImage),
            dict(type=LoadLabels),
            dict(type=RandomScaleCrop, crop=(480, 480), long_side=(260, 1040)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=PackSample),
        ],
    ),
)

val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=SegmentationDataset,
        root="data/ADEChallengeData2016",
        classes="ade20k_150",
        labels=dict(reduce_zero_label=True),
        images="images/validation",
        annotations="annotations/validation",
        test_mode=True,
        pipeline=[
            dict(type=LoadImage),
            dict(type=Resize, short_side=512, max_long_side=2048),
            dict(type=LoadLabels),
            dict(type=PackSample),
        ],
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type=MeanIoU)
test_evaluator = val_evaluator
