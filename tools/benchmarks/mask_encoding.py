"""From predicted 28x28 masks and their boxes to COCO's run lengths of whole images."""

from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as rle
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from benchmarks.comparison import Row, Sides
from openvocab.ops.mask_encoding import encode_masks
from openvocab.structures import Size


def prepare(count: int = 100, size: Size = (800, 1333)) -> Sides:
    """Compare with torchvision's pasting and pycocotools' encoding of each whole map."""
    probabilities, boxes = random_masks(count, size)

    @torch.inference_mode()
    def peer() -> list[dict[str, Any]]:
        maps = paste_masks_in_image(probabilities[:, None], boxes, size)[:, 0] > 0.5
        return [rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in maps]

    @torch.inference_mode()
    def ours() -> list[dict[str, Any]]:
        return encode_masks(probabilities, boxes, size)

    return Sides(peer, ours, _fraction_of_other_masks)


def random_masks(count: int, size: Size, cells: int = 28) -> tuple[Tensor, Tensor]:
    """Return probabilities (M, m, m) of blobs with soft, wavy edges, and boxes (M, 4) within the image."""
    random = torch.Generator().manual_seed(0)
    frame = torch.tensor([size[1], size[0]])
    sides = (4.5 + torch.randn(count, 2, generator=random)).exp().clamp(8)
    center = torch.rand(count, 2, generator=random) * frame
    boxes = torch.cat([center - sides / 2, center + sides / 2], dim=1).clamp(min=0)
    line = torch.linspace(-1, 1, cells)
    radius = (line[:, None].square() + line.square()).sqrt()
    waves = F.interpolate(torch.randn(count, 1, 5, 5, generator=random), size=(cells, cells), mode="bicubic")[:, 0]
    return (8 * (0.9 - radius) + 2 * waves).sigmoid(), torch.minimum(boxes, frame.repeat(2))


def _fraction_of_other_masks(expected: list[dict[str, Any]], got: list[dict[str, Any]]) -> float:
    return sum(one != other for one, other in zip(expected, got, strict=True)) / len(expected)


ROWS = (
    Row(
        "mask_encoding", None, partial(prepare), repeats=5, memory=True,
        note="100 masks, 800x1333; peer: torchvision, pycocotools",
    ),
)  # fmt: skip
