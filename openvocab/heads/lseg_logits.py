"""LSeg's logits part by part: for vocabularies and images whose (K, 2h, 2w) memory does not hold."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.heads.spatial_block import SpatialBlock
from openvocab.logit_map import ComputedLogits
from openvocab.ops.label_upsampling import sampling_positions
from openvocab.ops.upsampled_cosine import SMALLEST_LENGTH, upsampled_square_length
from openvocab.process.memory_fallback import Halving
from openvocab.structures import Size, TextFeatures


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


@dataclass(frozen=True)
class LSegLogits:
    """What LSeg says of a batch, its embeddings compared with the texts and passed through the spatial block."""

    pixels: PixelEmbeddings
    text: TextFeatures
    scale: Tensor
    """() multiplier of the cosine."""
    block: SpatialBlock | None
    classes_at_once: Halving

    def of_image(self, index: int, size: Size) -> ComputedLogits:
        """Return the logits of one image of the batch.

        Args:
            size: (h, w) of the embeddings; the logits are twice as fine.
        """
        shape = (self.text.num_classes, 2 * size[0], 2 * size[1])
        halo = max(1, self.block.depth) if self.block is not None else 0

        def compute(classes: slice, rows: slice, columns: slice) -> Tensor:
            some = self.text.part(classes)
            wide = [slice(max(0, p.start - halo), min(n, p.stop + halo)) for p, n in zip((rows, columns), shape[1:])]
            logits = self._pixel_logits(index, some, *wide)  # (k, n, m)
            if self.block is None:
                return logits
            inner = [slice(p.start - w.start, p.stop - w.start) for p, w in zip((rows, columns), wide)]
            return self.block(logits[None])[0, :, *inner]

        is_class_wise = self.block is None or self.block.kind == "depthwise"
        num_kept = self.text.embed.shape[1] * size[0] * size[1]
        halving = self.classes_at_once if is_class_wise else None
        return ComputedLogits(shape, self.text.embed.device, compute, halving, num_kept)

    def _pixel_logits(self, index: int, text: TextFeatures, rows: slice, columns: slice) -> Tensor:
        """Return the part (K, n, m) of `LSegHead.pixel_logits`."""
        if text.row_class is None:
            return self.pixels.cosine(index, text.embed, rows, columns).mul_(self.scale)
        return self.scale * text.pixel_similarity(self.pixels.unit_norm(index, rows, columns))[0]


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
