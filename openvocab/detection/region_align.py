"""What the maps of a pyramid show inside boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from openvocab.detection.proposal_network import as_regions
from openvocab.ops.roi_align import roi_align


@dataclass(frozen=True)
class AlignOptions:
    """How a detector reads its regions, `detector=dict(align=dict(...))`."""

    region_size: int = 7
    """Cells per side of the regions of the box head."""
    mask_region_size: int = 14
    """Cells per side of the regions of the mask branch, whose masks have twice as many."""
    read_extra_levels: bool = False
    """Whether large regions are read from the extra levels of the pyramid too, as in official ViLD."""
    canonical_size: float = 224
    """See `RegionAlign`, as the following."""
    canonical_stride: float = 16
    sampling_ratio: int = 2
    aligned: bool = True

    def build(self, strides: Sequence[float], output_size: int) -> "RegionAlign":
        """Return the `RegionAlign` of maps of these strides."""
        return RegionAlign(
            strides, output_size, self.canonical_size, self.canonical_stride, self.sampling_ratio, self.aligned
        )


class RegionAlign(nn.Module):
    """RoIAlign on the level of a pyramid that suits the size of each box.

    Args:
        strides: of the levels, fine to coarse, each twice the one before.
        output_size: rows and columns that a box is read at.
        canonical_size: boxes of this size (root of the area, in pixels) are read at `canonical_stride`, larger ones
            coarser and smaller ones finer.
        canonical_stride: see above.
        sampling_ratio: points a side in each cell; 0 takes as many as the box has pixels of the map.
        aligned: pixels lie at their centers (half a pixel off otherwise, as in torchvision's and TensorFlow's models).

    Raises:
        ValueError: strides of which one is not twice the one before: no rule says which boxes are theirs.

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
                f"strides: expected each twice the one before, got {tuple(strides)}; name the layers between them too"
            )
        self.strides = tuple(strides)
        self.output_size = output_size
        self.canonical_size, self.canonical_stride = canonical_size, canonical_stride
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Read the boxes of each image (N_i, 4), input frame, from maps (B, C, h_i, w_i); coarser maps are not read.

        Returns:
            (sum of N_i, C, output_size, output_size), in the order of the boxes.
        """
        regions = as_regions(boxes).float()  # (N, 5)
        levels = self.levels_of(regions[:, 1:])
        rows = [(levels == level).nonzero().squeeze(1) for level in range(len(self.strides))]
        reads = [
            roi_align(values, regions[chosen], self.output_size, stride, self.sampling_ratio, self.aligned)
            for stride, values, chosen in zip(self.strides, maps, rows)
        ]
        return torch.cat(reads)[torch.cat(rows).argsort()]

    def levels_of(self, boxes: Tensor) -> Tensor:
        """Return the (N,) level of each box."""
        size = (boxes[:, 2:] - boxes[:, :2]).float().clamp(min=0).prod(dim=1).sqrt()
        finest = math.log2(self.canonical_stride / self.strides[0])
        level = torch.floor(torch.log2(size / self.canonical_size + 1e-6) + finest + 1e-6)
        return level.clamp(0, len(self.strides) - 1).long()
