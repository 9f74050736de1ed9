"""What a detection head says of the regions of a batch before it decides."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.structures import Sample


@dataclass
class RegionOutputs:
    """N regions, those of the first image first."""

    maps: list[Tensor]
    """(B, C, h_i, w_i) of the pyramid, from which masks of the final boxes are read."""
    boxes: list[Tensor]
    """Of each image: (N_i, 4) float32 x1 y1 x2 y2, padded input frame; they may stick out of it."""
    objectness: Tensor
    """(N,) in 0..1."""
    text_logits: Tensor | None = None
    """(N, K + 1) of the detector's own classifier, "none of the classes" last."""
    image_logits: Tensor | None = None
    """(N, K) of an embedding like CLIP's, which knows no background."""

    @property
    def logits(self) -> Tensor:
        """(N, K) of the classes."""
        return self.image_logits if self.text_logits is None else self.text_logits[:, :-1]


def join_regions(
    parts: Sequence[tuple[list[Tensor], Tensor, Tensor | None]],
) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """Join what was said of regions part by part: boxes (N_i, 4) of each image, and two kinds of logits (N, K)."""
    boxes, first, second = zip(*parts)
    if len(parts) == 1:
        return boxes[0], first[0], second[0]
    joined = None if second[0] is None else torch.cat(second)
    return [torch.cat(of_image) for of_image in zip(*boxes)], torch.cat(first), joined


def original_boxes(boxes: Tensor, sample: Sample) -> Tensor:
    """Scale boxes (N, 4) of the input frame of a sample to its original frame, and clip them to it."""
    (height, width), (input_height, input_width) = sample.original_size, sample.input_size
    scale = boxes.new_tensor([width / input_width, height / input_height] * 2)
    return (boxes * scale).clamp(min=0).minimum(boxes.new_tensor([width, height] * 2))
