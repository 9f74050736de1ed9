"""LSeg's logits part by part, for vocabularies and images whose (K, 2h, 2w) logits do not fit into memory."""

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
    """The pixel embeddings of a batch, computed when they are first needed, and parts of them upsampled by two.

    Args:
        decode: returns the embeddings (B, D, h, w), any length.
    """

    def __init__(self, decode: Callable[[], Tensor]) -> None:
        self.decode = decode

    @cached_property
    def embed(self) -> Tensor:
        """(B, D, h, w), any length."""
        return self.decode()

    @cached_property
    def length(self) -> Tensor:
        """(B, 1, 2h, 2w) float32, length of each upsampled embedding."""
        with torch.autocast(self.embed.device.type, enabled=False):
            return upsampled_square_length(self.embed.float()).clamp(min=SMALLEST_LENGTH**2).sqrt()

    def cosine(self, index: int, text_rows: Tensor, rows: slice, columns: slice) -> Tensor:
        """Return a part of `upsampled_cosine`.

        Args:
            index: index of the image in the batch.
            text_rows: (R, D) unit norm.
            rows, columns: n and m of the 2h rows and 2w columns.

        Returns:
            (R, n, m) float32.
        """
        y, x = self._axes(rows, columns)
        embed = self.embed[index, None, :, y.nodes, x.nodes]  # (1, D, n', m')
        dots = F.conv2d(embed, text_rows.to(embed.dtype)[:, :, None, None])[0]  # (R, n', m')
        # (R, n, m) / (1, n, m); in place: parts are chosen to fill the memory
        return _interpolate(dots.float(), y, x).div_(self.length[index, :, rows, columns])

    def unit_norm(self, index: int, rows: slice, columns: slice) -> Tensor:
        """Return the part (1, D, n, m) of the upsampled embeddings, float32, unit norm."""
        y, x = self._axes(rows, columns)
        upsampled = _interpolate(self.embed[index, :, y.nodes, x.nodes].float(), y, x)  # (D, n, m)
        return F.normalize(upsampled[None], dim=1)

    def _axes(self, rows: slice, columns: slice) -> tuple["_UpsampledAxis", "_UpsampledAxis"]:
        height, width = self.embed.shape[-2:]
        return _UpsampledAxis(height, rows), _UpsampledAxis(width, columns)


@dataclass(frozen=True)
class LSegLogits:
    """The logits of a batch: embeddings compared with the texts and passed through the spatial block."""

    pixels: PixelEmbeddings
    text: TextFeatures
    scale: Tensor
    """() multiplier of the cosine."""
    block: SpatialBlock | None
    classes_at_once: Halving

    def of_image(self, index: int, size: Size) -> ComputedLogits:
        """Return the logits of one image of the batch.

        Args:
            index: index of the image.
            size: (h, w) of the embeddings; the logits have twice the resolution.

        Returns:
            The map (K, 2h, 2w).
        """
        height, width = 2 * size[0], 2 * size[1]
        # each application of the 3x3 block reads one more row and column on every side
        halo = max(1, self.block.depth) if self.block is not None else 0

        def compute(classes: slice, rows: slice, columns: slice) -> Tensor:
            text = self.text.part(classes)
            wide_rows, wide_columns = _widened(rows, halo, height), _widened(columns, halo, width)
            logits = self._pixel_logits(index, text, wide_rows, wide_columns)  # (k, n, m)
            if self.block is None:
                return logits
            inner_rows, inner_columns = _shifted(rows, wide_rows.start), _shifted(columns, wide_columns.start)
            # without the halo: next to it the block pads with zeros, unlike in the middle of the whole map
            return self.block(logits[None])[0, :, inner_rows, inner_columns]

        # a bottleneck block adds the maximum over all classes to each of them
        is_class_wise = self.block is None or self.block.kind == "depthwise"
        num_kept = self.text.embed.shape[1] * size[0] * size[1]
        halving = self.classes_at_once if is_class_wise else None
        shape = (self.text.num_classes, height, width)
        return ComputedLogits(shape, self.text.embed.device, compute, halving, num_kept)

    def _pixel_logits(self, index: int, text: TextFeatures, rows: slice, columns: slice) -> Tensor:
        """Return the part (K, n, m) of `LSegHead.pixel_logits`."""
        if text.row_class is None:
            return self.pixels.cosine(index, text.embed, rows, columns).mul_(self.scale)
        return self.scale * text.pixel_similarity(self.pixels.unit_norm(index, rows, columns))[0]


class _UpsampledAxis:
    """Between which nodes of an axis of `size` the positions of a part of 2 * size lie; corners aligned."""

    def __init__(self, size: int, part: slice) -> None:
        # on the CPU: the slice of nodes is made of numbers
        positions = sampling_positions(2 * size, 2 * size, 2 * size, size, True, torch.device("cpu"))[part]  # (n,)
        cell = positions.floor().long()
        self.nodes = slice(int(cell[0]), min(int(cell[-1]) + 1, size - 1) + 1)
        self.lower = cell - self.nodes.start
        self.upper = (cell + 1).clamp(max=size - 1) - self.nodes.start
        self.fraction = (positions - cell).float()


def _interpolate(values: Tensor, y: _UpsampledAxis, x: _UpsampledAxis) -> Tensor:
    """Upsample the nodes (C, n', m') of a part to its pixels (C, n, m)."""
    fraction_y, fraction_x = y.fraction.to(values.device), x.fraction.to(values.device)
    rows = torch.lerp(values[:, y.lower], values[:, y.upper], fraction_y[:, None])  # (C, n, m')
    return torch.lerp(rows[..., x.lower], rows[..., x.upper], fraction_x)


def _widened(part: slice, halo: int, size: int) -> slice:
    return slice(max(0, part.start - halo), min(size, part.stop + halo))


def _shifted(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)
