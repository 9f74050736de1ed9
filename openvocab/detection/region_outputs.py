"""The raw outputs of a detection head for the regions of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.structures import Sample, known


@dataclass
class DescribedRegions:
    """What a detection head computes for N regions of a batch, sorted by image, before it meets the texts."""

    maps: list[Tensor]
    """(B, C, h_i, w_i) of the pyramid."""
    boxes: list[Tensor]
    """Of each image: (N_i, 4) float32 x1 y1 x2 y2, refined, padded input frame."""
    objectness: Tensor
    """(N,) in 0..1."""
    embed: Tensor
    """(N, D) float32 unit norm, for the detector's own classifier."""
    image_embed: Tensor | None = None
    """(N, D) float32 unit norm, an embedding like CLIP's."""


@dataclass
class RegionOutputs:
    """Outputs for N regions, sorted by image."""

    maps: list[Tensor]
    """(B, C, h_i, w_i) of the pyramid, from which the masks of the final boxes are predicted."""
    boxes: list[Tensor]
    """Of each image: (N_i, 4) float32 x1 y1 x2 y2, padded input frame; they may reach outside it."""
    objectness: Tensor
    """(N,) in 0..1."""
    text_logits: Tensor | None = None
    """(N, K + 1) of the detector's own classifier, "none of the classes" last."""
    image_logits: Tensor | None = None
    """(N, K) of an embedding like CLIP's, which has no background."""

    @property
    def logits(self) -> Tensor:
        """(N, K) of the classes."""
        if self.text_logits is not None:
            return self.text_logits[:, :-1]
        return known(self.image_logits, "text_logits or image_logits of RegionOutputs")


def join_regions(
    parts: Sequence[tuple[list[Tensor], Tensor, Tensor | None]],
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Join outputs that were computed part by part.

    Args:
        parts: of each part of the regions: boxes (N_i, 4) of each image, rows (N, .) and rows (N, .) or None.

    Returns:
        The same three for all regions.
    """
    boxes, first, second = zip(*parts)
    if len(parts) == 1:
        return boxes[0], first[0], second[0]
    joined = None if second[0] is None else torch.cat(second)
    return [torch.cat(of_image) for of_image in zip(*boxes)], torch.cat(first), joined


def original_boxes(boxes: Tensor, sample: Sample) -> Tensor:
    """Scale boxes (N, 4) from the input frame of a sample to its original frame, and clip them to it."""
    (height, width), (input_height, input_width) = sample.original_size, sample.input_size
    # one scale per axis: the resize may have rounded each of them differently
    scale = boxes.new_tensor([width / input_width, height / input_height] * 2)  # (4,)
    return (boxes * scale).clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
