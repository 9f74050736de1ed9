"""The cross entropy of bilinearly upsampled logits.

    logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear")
    F.cross_entropy(logits, labels, ignore_index=ignore_index)

without the upsampled logits (B, K, H, W): they are computed in strips of rows, and the gradient is formed along the
way. Equal up to rounding.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

VALUES_PER_STRIP = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Upsampled logits held at a time: what fits a CPU's cache, and what fills a GPU."""
RowWeights = tuple[Tensor, Tensor, Tensor]
"""Lower source row (r,), upper source row (r,) and the fraction of the way between them (r, 1), of r output rows."""


def mean_upsampled_cross_entropy(logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool) -> Tensor:
    """Return the mean cross entropy over the labeled pixels. Its second derivative is not defined.

    Args:
        logits: (B, K, h, w) float32.
        labels: (B, H, W) int64.
        ignore_index: label of pixels that do not count.
        align_corners: whether the corner pixels of both maps coincide.

    Returns:
        () float32; zero, with a gradient of zeros, if no pixel is labeled.
    """
    return _StripwiseCrossEntropy.apply(logits, labels, ignore_index, align_corners)


class _StripwiseCrossEntropy(torch.autograd.Function):
    """Loss and gradient of upsampled logits in one pass over the rows of the label map."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, ignore_index: int, align_corners: bool) -> Tensor:
        """Sum the loss strip by strip, and keep its gradient with respect to `logits`."""
        # formed here: a later backward pass would have to compute every strip again
        gradient = torch.zeros_like(logits) if ctx.needs_input_grad[0] else None
        total = logits.new_zeros(())
        for image, rows, source_rows, weights in _strips(logits, labels, align_corners):
            with torch.set_grad_enabled(gradient is not None):
                source = logits[image, :, source_rows].detach().requires_grad_(gradient is not None)  # (1, K, s, w)
                strip = _upsample_rows(source, weights, labels.shape[-1], align_corners)  # (1, K, r, W)
                loss = F.cross_entropy(strip, labels[image, rows], ignore_index=ignore_index, reduction="sum")
                if gradient is not None:
                    # neighboring strips share a source row, so that gradients are added
                    gradient[image, :, source_rows] += torch.autograd.grad(loss, source)[0]
            total += loss.detach()
        # the number of labeled pixels is that of all strips: sums until here, one division at the end
        count = (labels != ignore_index).sum().clamp(min=1)
        if gradient is not None:
            ctx.save_for_backward(gradient.div_(count))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the gradient (B, K, h, w) that the forward pass formed."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None


def _strips(logits: Tensor, labels: Tensor, align_corners: bool) -> Iterator[tuple[slice, slice, slice, RowWeights]]:
    """Yield (image, rows of the label map, source rows that they lie between, weights) of every strip."""
    height, width = labels.shape[-2:]
    budget = VALUES_PER_STRIP.get(logits.device.type, VALUES_PER_STRIP["cuda"])
    step = max(1, budget // (logits.shape[1] * width))
    lower, fraction = _row_positions(logits.shape[-2], height, align_corners, logits.device)  # (H,) each
    bounds = lower.tolist()
    for image in range(len(logits)):
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            first = bounds[rows.start]
            last = min(bounds[rows.stop - 1] + 2, logits.shape[-2])
            below = lower[rows] - first
            above = (below + 1).clamp(max=last - first - 1)  # the last row has no next one
            yield slice(image, image + 1), rows, slice(first, last), (below, above, fraction[rows, None])


def _row_positions(grid: int, out: int, align_corners: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the source row at or above each output row, (out,) int64, and the fraction of the way to the next one."""
    rows = torch.arange(out, dtype=torch.float64)
    if align_corners:
        position = rows * ((grid - 1) / max(out - 1, 1))
    else:
        # clamped: pixels of the border lie outside the centers of the outermost nodes
        position = ((rows + 0.5) * (grid / out) - 0.5).clamp(0, grid - 1)
    lower = position.floor().clamp(max=grid - 1)
    return lower.long().to(device), (position - lower).float().to(device)


def _upsample_rows(source: Tensor, weights: RowWeights, width: int, align_corners: bool) -> Tensor:
    """Interpolate source rows (1, K, s, w) to the rows that `weights` describe and to `width`, (1, K, r, W)."""
    below, above, fraction = weights
    strip = torch.lerp(source[:, :, below], source[:, :, above], fraction)  # (1, K, r, w)
    size = (strip.shape[2], width)
    return F.interpolate(strip, size=size, mode="bilinear", align_corners=align_corners)
