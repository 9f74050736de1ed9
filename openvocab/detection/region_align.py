"""The features of regions, from the maps of a pyramid."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from openvocab.argument_checks import check_flags, check_number
from openvocab.detection.proposal_network import as_regions
from openvocab.ops.roi_align import roi_align


@dataclass(frozen=True)
class AlignOptions:
    """How a detector pools the features of its regions, `detector=dict(align=dict(...))`."""

    region_size: int = 7
    """Cells per side of the regions of the box head."""
    mask_region_size: int = 14
    """Cells per side of the regions of the mask branch, whose masks have twice as many."""
    read_extra_levels: bool = False
    """Whether large regions are pooled from the extra levels of the pyramid too, as in official ViLD."""
    canonical_size: float = 224
    """See `RegionAlign`; so for the following fields."""
    canonical_stride: float = 16
    sampling_ratio: int = 2
    aligned: bool = True

    def __post_init__(self) -> None:
        check_number("align.region_size", self.region_size, 1, whole=True)
        check_number("align.mask_region_size", self.mask_region_size, 1, whole=True)
        check_number("align.canonical_size", self.canonical_size)
        check_number("align.canonical_stride", self.canonical_stride)
        check_number("align.sampling_ratio", self.sampling_ratio, whole=True)
        check_flags({"align.read_extra_levels": self.read_extra_levels, "align.aligned": self.aligned})

    def build(self, strides: Sequence[float], output_size: int) -> "RegionAlign":
        """Return the `RegionAlign` of maps of these strides."""
        return RegionAlign(
            strides, output_size, self.canonical_size, self.canonical_stride, self.sampling_ratio, self.aligned
        )


class RegionAlign(nn.Module):
    """RoIAlign of each box from the level of a pyramid that suits its size.

    Args:
        strides: of the levels, fine to coarse, each twice the previous one.
        output_size: cells per side of a region.
        canonical_size: boxes of this size (square root of the area, in pixels) are pooled from the level of
            `canonical_stride`, larger ones from coarser levels and smaller ones from finer levels.
        canonical_stride: see above.
        sampling_ratio: sampling points per side of a cell; 0: as many as the cell has pixels of the map.
        aligned: whether values lie at the centers of their pixels; False: half a pixel off, as in the models of
            torchvision and TensorFlow.

    Raises:
        ValueError: strides of which one is not twice the previous one: the rule of the levels needs that.

    Reference: Mask R-CNN, arXiv 1703.06870; the level rule of arXiv 1612.03144.
    """

    def __init__(
        self,
        strides: Sequence[float],
        output_size: int,
        canonical_size: float = 224,
        canonical_stride: float = 16,
        sampling_ratio: int = 2,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise ValueError(
                f"strides: expected each twice the previous one, got {tuple(strides)}; name the layers between them too"
            )
        self.strides = tuple(strides)
        self.output_size = output_size
        self.canonical_size, self.canonical_stride = canonical_size, canonical_stride
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Return the features of boxes.

        Args:
            maps: (B, C, h_i, w_i), fine to coarse; those beyond `strides` are ignored.
            boxes: (N_i, 4) of each image, input frame.

        Returns:
            (sum of N_i, C, output_size, output_size), in the order of the boxes.
        """
        # float32: an edge of a large box in bfloat16 could be off by several pixels
        regions = as_regions(boxes).float()  # (N, 5)
        levels = self.levels_of(regions[:, 1:])  # (N,)
        rows = [(levels == level).nonzero().squeeze(1) for level in range(len(self.strides))]
        roi_features = [
            roi_align(level_map, regions[level_rows], self.output_size, stride, self.sampling_ratio, self.aligned)
            for stride, level_map, level_rows in zip(self.strides, maps, rows)
        ]
        # they are sorted by level; argsort inverts that permutation
        return torch.cat(roi_features)[torch.cat(rows).argsort()]

    def levels_of(self, boxes: Tensor) -> Tensor:
        """Return the (N,) int64 index of the level of each box (N, 4), equation 1 of arXiv 1612.03144."""
        size = (boxes[:, 2:] - boxes[:, :2]).float().clamp(min=0).prod(dim=1).sqrt()  # (N,), in pixels
        finest = math.log2(self.canonical_stride / self.strides[0])
        # boxes without area have a size of 0, whose logarithm the first small number keeps finite
        level = torch.floor(torch.log2(size / self.canonical_size + 1e-6) + finest + 1e-6)
        # very small and very large boxes take the finest and the coarsest level
        return level.clamp(0, len(self.strides) - 1).long()
