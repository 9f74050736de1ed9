"""Loading a training sample from files, on one core."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform, LoadAnnotations, LoadImageFromFile, RandomFlip, RandomResize

from benchmarks.comparison import Row, Sides
from openvocab.datasets import transforms
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.structures import Size

CLASSES = [f"class {index}" for index in range(150)]
RATIO = (0.5, 2.0)
OCTAVES = (4, 8, 16, 32, 64, 128, 256)


def prepare(size: Size, samples: int, crop: int = 512) -> Sides:
    """Compare a `SegmentationDataset` with mmcv's transforms: load both, random scale, random crop, flip, pack."""
    folder = tempfile.TemporaryDirectory()  # removed with its last reference, which `ours` holds
    write_pair(Path(folder.name), size)
    plain = plain_pipeline(Path(folder.name), size, crop)
    dataset = SegmentationDataset(
        "images",
        "labels",
        CLASSES,
        root=folder.name,
        pipeline=[
            transforms.LoadImage(),
            transforms.LoadLabels(),
            transforms.RandomScaleCrop((crop, crop), ratio=RATIO),
            transforms.RandomFlip(),
            transforms.PackSample(),
        ],
    )

    def ours(folder: tempfile.TemporaryDirectory = folder) -> list[Any]:
        return [dataset[0] for _ in range(samples)]

    return Sides(lambda: [plain() for _ in range(samples)], ours, peer_scale=1 / samples, ours_scale=1 / samples)


def plain_pipeline(folder: Path, size: Size, crop: int) -> Callable[[], dict[str, torch.Tensor]]:
    """Return a function that loads a sample by mmcv's transforms, with a uint8 image."""
    steps = [
        LoadImageFromFile(),
        LoadAnnotations(with_bbox=False, with_label=False, with_seg=True),
        RandomResize(scale=size[::-1], ratio_range=RATIO, keep_ratio=True, resize_type="mmcv.Resize"),
        ResizedCrop(crop),
        RandomFlip(prob=0.5),
    ]

    def sample() -> dict[str, torch.Tensor]:
        results: dict[str, Any] = {
            "img_path": str(folder / "images/one.jpg"),
            "seg_map_path": str(folder / "labels/one.png"),
        }
        for step in steps:
            results = step(results)
        image = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        labels = np.ascontiguousarray(results["gt_seg_map"])
        return {"inputs": torch.from_numpy(image), "labels": torch.from_numpy(labels.astype(np.int64))}

    return sample


class ResizedCrop(BaseTransform):
    """A random crop of the resized image, which mmcv leaves to its users."""

    def __init__(self, crop: int) -> None:
        self.crop = crop

    def transform(self, results: dict) -> dict:
        """Crop `img` and `gt_seg_map`."""
        height, width = results["img"].shape[:2]
        top, left = (np.random.randint(max(0, length - self.crop) + 1) for length in (height, width))
        for key in ("img", "gt_seg_map"):
            results[key] = results[key][top : top + self.crop, left : left + self.crop]
        return results


def write_pair(folder: Path, size: Size) -> None:
    """Write a photo-like JPEG (noise of all scales, quality 90) and a label map of squares as PNG."""
    random = np.random.default_rng(0)
    photo = random.normal(0, 2, (*size, 3)).astype(np.float32)
    for octave in OCTAVES:
        grid = [max(2, length // octave) + 1 for length in size]
        noise = random.normal(0, octave**0.6, (*grid, 3)).astype(np.float32)
        photo += cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    photo = cv2.normalize(photo, np.empty_like(photo), 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    squares = random.integers(0, len(CLASSES), [max(1, length // 16) for length in size]).astype(np.uint8)
    labels = cv2.resize(squares, size[::-1], interpolation=cv2.INTER_NEAREST)
    for name, array in (("images/one.jpg", photo), ("labels/one.png", labels)):
        (folder / name).parent.mkdir(exist_ok=True)
        quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if name.endswith(".jpg") else []
        cv2.imwrite(str(folder / name), array, quality)


_NOTE = "milliseconds per sample, mean of {}; scales and crops are random, so that no error is stated"
ROWS = (
    Row("loader_640x480", 0.60, partial(prepare, (480, 640), 32), threads=1, repeats=15, note=_NOTE.format(32)),
    Row("loader_2048x1024", 0.70, partial(prepare, (1024, 2048), 16), threads=1, repeats=11, note=_NOTE.format(16)),
)
