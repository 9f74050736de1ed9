"""Counting pixels by label and prediction."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from benchmarks.comparison import Row, Sides
from openvocab.metrics.confusion import confusion_matrix
from openvocab.structures import IGNORE_INDEX

BLOCK = 16
"""Side of the squares, in pixels, that stand for the regions of a label map."""


def prepare(num_classes: int = 150, images: int = 40, size: int = 512) -> Sides:
    """Compare with three float histograms per image: intersection, prediction, label."""
    pairs = random_label_maps(num_classes, images, size)
    tensors = [tuple(torch.from_numpy(part).long() for part in pair) for pair in pairs]

    def peer() -> Tensor:
        areas = (_areas(labels, predicted, num_classes) for labels, predicted in tensors)
        return sum(areas, start=torch.zeros(3, num_classes))

    def ours() -> Tensor:
        matrices = (confusion_matrix(labels, predicted, num_classes) for labels, predicted in pairs)
        matrix = sum(matrices, start=np.zeros((num_classes, num_classes), np.int64))
        return torch.from_numpy(np.stack([matrix.diagonal(), matrix.sum(0), matrix.sum(1)]))

    return Sides(peer, ours, _largest_difference)


def random_label_maps(num_classes: int, images: int, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs (labels, predicted) of (size, size) uint8: 5 % ignored, 80 % predicted correctly."""
    random = np.random.default_rng(0)
    pairs = []
    for _ in range(images):
        blocks = random.integers(0, num_classes, (2, size // BLOCK, size // BLOCK), dtype=np.uint8)
        labels, other = blocks.repeat(BLOCK, 1).repeat(BLOCK, 2)
        predicted = np.where(random.random(labels.shape) < 0.8, labels, other)
        labels = np.where(random.random(labels.shape) < 0.05, np.uint8(IGNORE_INDEX), labels)
        pairs.append((labels, predicted))
    return pairs


def _areas(labels: Tensor, predicted: Tensor, num_classes: int) -> Tensor:
    """Return the areas of intersection, prediction and label, (3, K) float32, as mmsegmentation's metric counts."""
    valid = labels != IGNORE_INDEX
    labels, predicted = labels[valid], predicted[valid]
    parts: Sequence[Tensor] = (predicted[predicted == labels], predicted, labels)
    return torch.stack([torch.histc(part.float(), bins=num_classes, min=0, max=num_classes - 1) for part in parts])


def _largest_difference(expected: Tensor, got: Tensor) -> float:
    return float((expected.double() - got.double()).abs().max())


ROWS = (Row("confusion_150", 0.07, partial(prepare), repeats=9, note="40 images of 512x512; error in pixels"),)
