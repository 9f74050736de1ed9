"""Sources of the regions that the teacher embeds."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from openvocab.registry import PROPOSAL_SOURCES
from openvocab.structures import Size


class ProposalSource(Protocol):
    """A function from an image to boxes."""

    reads_labels: bool
    """Whether the boxes come from the labels of the dataset: a cache is then stale after the labels change."""

    @property
    def facts(self) -> dict[str, Any]:
        """Everything that the boxes depend on, except for the image and its labels, as plain values."""

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Propose boxes.

        Args:
            results: results of a pipeline after `LoadImage`.

        Returns:
            (N, 4) float32 x1 y1 x2 y2 in pixels of the image, N >= 0, and their objectness (N,) in 0..1.
        """


@PROPOSAL_SOURCES.register_module()
class GroundTruthProposals:
    """The labeled objects of the dataset without crowds; in a training set of base classes, only objects of these."""

    reads_labels = True

    @property
    def facts(self) -> dict[str, Any]:
        """Only the type: `LoadRegions` compares the boxes themselves."""
        return {"type": type(self).__name__}

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Return the boxes (N, 4) of an item of `DetectionDataset`, with an objectness (N,) of 1.

        Raises:
            ValueError: an item of another dataset.
        """
        table = results.get("instance_table")
        if table is None:
            raise ValueError(f"{results['sample_id']}: GroundTruthProposals needs a dataset with boxes")
        rows = slice(*table.first[results["image_position"] :][:2])
        boxes = torch.from_numpy(table.boxes[rows][~table.is_crowd[rows]])
        return boxes, torch.ones(len(boxes))


@PROPOSAL_SOURCES.register_module()
class GridProposals:
    """Boxes of a few sizes and aspect ratios on a regular grid, which need neither labels nor a detector.

    Args:
        sizes: square roots of the boxes' areas, as fractions of the image's short side.
        aspect_ratios: width / height.
        stride: largest distance between neighbors, as a fraction of their width and height.

    Raises:
        ValueError: a value that is not positive.
    """

    reads_labels = False

    def __init__(
        self, sizes: Sequence[float] = (0.25, 0.5), aspect_ratios: Sequence[float] = (1.0,), stride: float = 0.5
    ) -> None:
        if not sizes or not aspect_ratios or min(*sizes, *aspect_ratios, stride) <= 0:
            raise ValueError(f"expected positive numbers, got {sizes=}, {aspect_ratios=}, {stride=}")
        self.sizes, self.aspect_ratios, self.stride = tuple(sizes), tuple(aspect_ratios), stride

    @property
    def facts(self) -> dict[str, Any]:
        """The type and its arguments."""
        arguments = {"sizes": list(self.sizes), "aspect_ratios": list(self.aspect_ratios), "stride": self.stride}
        return {"type": type(self).__name__, **arguments}

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Return the boxes (N, 4) for the image's size, with an objectness (N,) of 1."""
        size = results["img"].shape[:2]
        pairs = itertools.product(self.sizes, self.aspect_ratios)
        boxes = torch.from_numpy(np.concatenate([self._grid(size, *pair) for pair in pairs])).float()
        return boxes, torch.ones(len(boxes))

    def _grid(self, size: Size, fraction: float, ratio: float) -> np.ndarray:
        """Return boxes (N, 4) of one size and aspect ratio, none larger than the image."""
        root = fraction * min(size)
        (top, height), (left, width) = (
            self._starts(length, side) for length, side in zip(size, (root / math.sqrt(ratio), root * math.sqrt(ratio)))
        )
        left, top = (grid.ravel() for grid in np.meshgrid(left, top))  # (N,) each
        return np.stack([left, top, left + width, top + height], axis=1)  # (N, 4)

    def _starts(self, length: int, side: float) -> tuple[np.ndarray, float]:
        """Return the starts (N,) of boxes along an axis of `length` pixels, and their side along it."""
        side = min(side, length)
        count = 1 + math.ceil((length - side) / (self.stride * side))
        return np.linspace(0, length - side, count), side
