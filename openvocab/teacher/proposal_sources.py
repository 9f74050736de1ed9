"""Which regions of an image the teacher looks at."""

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
    """Boxes for every image."""

    reads_labels: bool
    """Whether the boxes come from the labels of the dataset: then a cache is as old as the labels it was made of."""

    @property
    def facts(self) -> dict[str, Any]:
        """All that the boxes depend on besides the image and its labels, as plain values."""

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Return boxes (N, 4) float32 x1 y1 x2 y2 in the image, N >= 0, and how sure they are objects, (N,) in 0..1.

        Args:
            results: of a pipeline after `LoadImage`.
        """


@PROPOSAL_SOURCES.register_module()
class GroundTruthProposals:
    """The labeled objects of the dataset, without crowds: of a training set with base classes, those alone."""

    reads_labels = True

    @property
    def facts(self) -> dict[str, Any]:
        """Nothing but the kind: boxes are compared one by one."""
        return {"type": type(self).__name__}

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Return the boxes of an item of `DetectionDataset`, sure to be objects.

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
    """Boxes of a few sizes and forms, evenly spread over the image: needs neither labels nor a detector.

    Args:
        sizes: square root of a box's area, as shares of the image's short side.
        aspect_ratios: width / height.
        stride: largest distance between neighbors, as a share of their own width and height.

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
        """The kind and its arguments."""
        arguments = {"sizes": list(self.sizes), "aspect_ratios": list(self.aspect_ratios), "stride": self.stride}
        return {"type": type(self).__name__, **arguments}

    def __call__(self, results: dict) -> tuple[Tensor, Tensor]:
        """Return the boxes for the image's size, one as good as another (1)."""
        size = results["img"].shape[:2]
        forms = itertools.product(self.sizes, self.aspect_ratios)
        boxes = torch.from_numpy(np.concatenate([self._grid(size, *form) for form in forms])).float()
        return boxes, torch.ones(len(boxes))

    def _grid(self, size: Size, share: float, ratio: float) -> np.ndarray:
        """Return (N, 4) boxes of one form, none larger than the image."""
        root = share * min(size)
        (top, height), (left, width) = (
            self._starts(length, side) for length, side in zip(size, (root / math.sqrt(ratio), root * math.sqrt(ratio)))
        )
        left, top = (grid.ravel() for grid in np.meshgrid(left, top))
        return np.stack([left, top, left + width, top + height], axis=1)  # (N, 4)

    def _starts(self, length: int, side: float) -> tuple[np.ndarray, float]:
        """Return where boxes start along an axis of `length` pixels, and the side that they have there."""
        side = min(side, length)
        count = 1 + math.ceil((length - side) / (self.stride * side))
        return np.linspace(0, length - side, count), side
