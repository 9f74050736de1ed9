"""The outline of whatever is in a box."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from openvocab.detection.norms import norm_layer
from openvocab.detection.region_align import RegionAlign


class MaskBranch(nn.Module):
    """Class-agnostic masks at twice the resolution that a region is read at.

    Args:
        align: reads the regions, 14x14 for masks of 28x28.
        in_dim: channels of the maps.
        dim: width of the branch.
        convs: its convolutions.
        norm: after each of them, see `norm_layer`.
        norm_upsampled: after the transposed convolution too, as official ViLD and F-VLM.

    Reference: Mask R-CNN, arXiv 1703.06870; one mask for all classes as in ViLD (arXiv 2104.13921).
    """

    def __init__(
        self,
        align: RegionAlign,
        in_dim: int,
        dim: int = 256,
        convs: int = 4,
        norm: str | None = None,
        norm_upsampled: bool = False,
    ) -> None:
        super().__init__()
        self.align = align
        make_norm = norm_layer(norm)
        self.head = MaskRCNNHeads(in_dim, [dim] * convs, 1, make_norm)
        self.predictor = MaskRCNNPredictor(dim, dim, 1)
        if norm_upsampled and make_norm is not None:
            self.predictor.conv5_mask = nn.Sequential(self.predictor.conv5_mask, make_norm(dim))

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Return (N, m, m) logits of the masks in `boxes` (N_i, 4) of each image."""
        return self.predictor(self.head(self.align(maps, boxes)))[:, 0].float()

    def loss(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor], objects: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        """Return the mean binary cross entropy of the masks in `boxes`.

        Args:
            maps: (B, C, h_i, w_i) a level.
            boxes: (N_i, 4) of each image.
            objects: (N_i,) the object in each box.
            masks: (O_i, H, W) bool of each image's objects.
        """
        logits = self(maps, boxes)
        targets = [
            masks_in_boxes(mask, box, index, logits.shape[-1], self.align.aligned)
            for mask, box, index in zip(masks, boxes, objects)
        ]
        losses = F.binary_cross_entropy_with_logits(logits, torch.cat(targets), reduction="sum")
        return losses / max(1, logits.numel())


def masks_in_boxes(masks: Tensor, boxes: Tensor, objects: Tensor, size: int, aligned: bool = True) -> Tensor:
    """Return the (N, size, size) share of each cell of `boxes` (N, 4) that its object's mask (O, H, W) covers."""
    if not len(boxes):
        return boxes.new_zeros(0, size, size)
    used, place = objects.unique(return_inverse=True)
    regions = torch.cat([place[:, None].to(boxes), boxes], dim=1)  # (N, 5)
    return roi_align(masks[used, None].to(boxes), regions, size, aligned=aligned)[:, 0]
