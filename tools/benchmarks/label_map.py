"""Full-size label maps from coarse logits."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import label_disagreement
from openvocab.postprocess import label_map_from_logits
from openvocab.structures import Size

TEXT_DIM = 512
FEATURE_SCALE = 4
"""Number of grid cells over which the features change smoothly, as those of a network do."""
NOISE = 0.3


def prepare(num_classes: int, size: Size, stride: int, device: str = "cpu") -> Sides:
    """Compare with upsampling all logits and taking the argmax; both start from the same coarse logits."""
    logits = smooth_logits(num_classes, (size[0] // stride, size[1] // stride)).to(device)

    @torch.inference_mode()
    def peer() -> Tensor:
        return F.interpolate(logits[None], size=size, mode="bilinear", align_corners=False).argmax(1)

    @torch.inference_mode()
    def ours() -> Tensor:
        return label_map_from_logits(logits, size)

    return Sides(peer, ours, label_disagreement)


@torch.inference_mode()
def smooth_logits(num_classes: int, grid: Size) -> Tensor:
    """Return 100 times the cosine (K, h, w) of random texts with a smooth random field of unit-norm features."""
    random = torch.Generator().manual_seed(0)
    coarse = [max(2, length // FEATURE_SCALE) for length in grid]
    field = torch.randn(1, TEXT_DIM, *coarse, generator=random)
    field = F.interpolate(field, size=grid, mode="bicubic", align_corners=False)
    field = F.normalize(field + NOISE * torch.randn(field.shape, generator=random), dim=1)
    text = F.normalize(torch.randn(num_classes, TEXT_DIM, generator=random), dim=1)
    return 100 * torch.einsum("kd,dhw->khw", text, field[0])


_LARGE = "the peer takes 10 GB"
ROWS = (
    Row(
        "label_map_1203_stride16", 0.06, partial(prepare, 1203, (1024, 2048), 16),
        repeats=3, memory=True, max_memory_ratio=0.06, note=_LARGE, on_cuda=True,
    ),
    Row("label_map_150_stride4", 1.0, partial(prepare, 150, (512, 512), 4), repeats=15, memory=True, on_cuda=True),
    Row("label_map_150_stride2", 1.0, partial(prepare, 150, (512, 512), 2), repeats=15, memory=True, on_cuda=True),
)  # fmt: skip
