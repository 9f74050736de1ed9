"""The mask of the object in a box, whatever its class."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from openvocab.argument_checks import check_flags, check_number
from openvocab.detection.norms import norm_layer
from openvocab.detection.region_align import RegionAlign


class MaskBranch(nn.Module):
    """Class-agnostic masks at twice the resolution of the region features.

    Args:
        align: computes the region features, 14x14 for masks of 28x28.
        in_dim: channels of the maps.
        dim: channels of the branch.
        convs: number of convolutions.
        norm: after each of them, see `norm_layer`.
        norm_upsampled: whether there is one after the transposed convolution too, as in official ViLD and F-VLM.

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
        check_number("dim", dim, 1, whole=True)
        check_number("convs", convs, 1, whole=True)
        check_flags({"norm_upsampled": norm_upsampled})
        self.align = align
        make_norm = norm_layer(norm)
        self.head = MaskRCNNHeads(in_dim, [dim] * convs, 1, make_norm)
        self.predictor = MaskRCNNPredictor(dim, dim, 1)
        if norm_upsampled and make_norm is not None:
            self.predictor.conv5_mask = nn.Sequential(self.predictor.conv5_mask, make_norm(dim))

    def forward(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Tensor:
        """Return the mask logits of boxes.

        Args:
            maps: (B, C, h_i, w_i) of the pyramid, fine to coarse.
            boxes: (N_i, 4) of each image, input frame.

        Returns:
            (sum of N_i, m, m) float32; each mask covers its box.
        """
        # float32 even under autocast: the loss sums over all cells of all boxes
        return self.predictor(self.head(self.align(maps, boxes)))[:, 0].float()

    def loss(
        self, maps: Sequence[Tensor], boxes: Sequence[Tensor], objects: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> Tensor:
        """Return the mean binary cross entropy () of the masks in `boxes`, over all cells of all boxes.

        Args:
            maps: (B, C, h_i, w_i) of the pyramid, fine to coarse.
            boxes: (N_i, 4) of each image, input frame.
            objects: (N_i,) index of the object matched with each box.
            masks: (O_i, H, W) bool, the masks of each image's objects.

        Returns:
            (), 0 without boxes.
        """
        logits = self(maps, boxes)  # (N, m, m)
        targets = [
            masks_in_boxes(mask, box, index, logits.shape[-1], self.align.aligned)
            for mask, box, index in zip(masks, boxes, objects)
        ]
        loss = F.binary_cross_entropy_with_logits(logits, torch.cat(targets), reduction="sum")
        # a sum over at least 1: the mean of no box would be NaN
        return loss / max(1, logits.numel())


def masks_in_boxes(masks: Tensor, boxes: Tensor, objects: Tensor, size: int, aligned: bool = True) -> Tensor:
    """Return the targets of the mask branch: the fraction of each cell of a box that the object's mask covers.

    Args:
        masks: (O, H, W) bool, input frame.
        boxes: (N, 4), input frame.
        objects: (N,) index of each box's object.
        size: cells per side.
        aligned: see `RegionAlign`.

    Returns:
        (N, size, size) of the dtype of `boxes`, in 0..1.
    """
    if not len(boxes):
        return boxes.new_zeros(0, size, size)
    # many boxes share an object: only the masks that occur are converted to floating point, each once
    used, mask_index = objects.unique(return_inverse=True)
    regions = torch.cat([mask_index[:, None].to(boxes), boxes], dim=1)  # (N, 5)
    return roi_align(masks[used, None].to(boxes), regions, size, aligned=aligned)[:, 0]  # (N, size, size)
