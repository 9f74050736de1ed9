"""LSeg's logits part by part: for vocabularies and images whose (K, 2h, 2w) memory does not hold."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.upsampled_cosine import SMALLEST_LENGTH, upsampled_square_length
from openvocab.label_upsampling import sampling_positions
from openvocab.logit_map import ComputedLogits
from openvocab.structures import Size, TextFeatures

if TYPE_CHECKING:
    from openvocab.heads.lseg import LSegHead


class PixelEmbeddings:
    """The decoder's embeddings of a batch, made at the first look at them, and what is read of them upsampled.

    Args:
        decode: returns the embeddings (B, D, h, w), any length.
    """

    def __init__(self, decode: Callable[[], Tensor]) -> None:
        self.decode = decode

    @cached_property
    def embed(self) -> Tensor:
        """(B, D, h, w)."""
        return self.decode()

    @cached_property
    def length(self) -> Tensor:
        """(B, 1, 2h, 2w) float32, of the upsampled embeddings."""
        with torch.autocast(self.embed.device.type, enabled=False):
            return upsampled_square_length(self.embed.float()).clamp(min=SMALLEST_LENGTH**2).sqrt()

    def cosine(self, index: int, text_rows: Tensor, rows: slice, columns: slice) -> Tensor:
        """Return the part (R, n, m) of `upsampled_cosine` with text rows (R, D) of unit norm."""
        y, x = (_Near(size, part) for size, part in zip(self.embed.shape[-2:], (rows, columns)))
        embed = self.embed[index, None, :, y.nodes, x.nodes]
        dots = F.conv2d(embed, text_rows.to(embed.dtype)[:, :, None, None])[0]  # (R, n', m')
        return _interpolate(dots.float(), y, x).div_(self.length[index, :, rows, columns])

    def unit_norm(self, index: int, rows: slice, columns: slice) -> Tensor:
        """Return the part (1, D, n, m) of the upsampled embeddings, float32, unit norm."""
        y, x = (_Near(size, part) for size, part in zip(self.embed.shape[-2:], (rows, columns)))
        upsampled = _interpolate(self.embed[index, :, y.nodes, x.nodes].float(), y, x)
        return F.normalize(upsampled[None], dim=1)


def lseg_logit_map(
    head: "LSegHead", pixels: PixelEmbeddings, index: int, size: Size, text: TextFeatures
) -> ComputedLogits:
    """Return what the head says of one image of a batch.

    Args:
        pixels: of the batch.
        index: of the image.
        size: (h, w) of the embeddings; the logits are twice as fine.
    """
    shape = (text.num_classes, 2 * size[0], 2 * size[1])
    halo = max(1, head.block.depth) if head.block is not None else 0

    def compute(classes: slice, rows: slice, columns: slice) -> Tensor:
        some = text.part(classes)
        wide = [slice(max(0, p.start - halo), min(n, p.stop + halo)) for p, n in zip((rows, columns), shape[1:])]
        logits = _pixel_logits(head, pixels, index, some, *wide)  # (k, n, m)
        if head.block is None:
            return logits
        inner = [slice(p.start - w.start, p.stop - w.start) for p, w in zip((rows, columns), wide)]
        return head.block(logits[None])[0, :, *inner]

    is_class_wise = head.block is None or head.block.kind == "depthwise"
    device = text.embed.device
    num_kept = text.embed.shape[1] * size[0] * size[1]
    return ComputedLogits(shape, device, compute, head.classes_at_once if is_class_wise else None, num_kept)


def _pixel_logits(
    head: "LSegHead", pixels: PixelEmbeddings, index: int, text: TextFeatures, rows: slice, columns: slice
) -> Tensor:
    """Return the part (K, n, m) of `LSegHead.pixel_logits`."""
    if text.row_class is None:
        return pixels.cosine(index, text.embed, rows, columns).mul_(head.logit_scale)
    return head.logit_scale * text.pixel_similarity(pixels.unit_norm(index, rows, columns))[0]


class _Near:
    """Which nodes of an axis the positions of a part of twice its length lie between, and how far; corners aligned."""

    def __init__(self, size: int, part: slice) -> None:
        positions = sampling_positions(2 * size, 2 * size, 2 * size, size, True, torch.device("cpu"))[part]
        cell = positions.floor().long()
        self.nodes = slice(int(cell[0]), min(int(cell[-1]) + 1, size - 1) + 1)
        self.before = cell - self.nodes.start
        self.after = (cell + 1).clamp(max=size - 1) - self.nodes.start
        self.share = (positions - cell).float()


def _interpolate(values: Tensor, y: _Near, x: _Near) -> Tensor:
    """Upsample the nodes (C, n', m') of a part to its pixels (C, n, m)."""
    share_y, share_x = y.share.to(values.device), x.share.to(values.device)
    rows = torch.lerp(values[:, y.before], values[:, y.after], share_y[:, None])  # (C, n, m')
    return torch.lerp(rows[..., x.before], rows[..., x.after], share_x)
