"""Cross entropy of pixels, at the logits' own size or at the size of the label map."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from openvocab.structures import Sample, Size, ignore_index

VALUES_PER_STRIP = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Upsampled logits held at a time: what fits a CPU's cache, what fills a GPU."""


def pixel_cross_entropy(logits: Tensor, label_map: Tensor) -> Tensor:
    """Average the cross entropy over the labeled pixels of a batch, in float32 whatever the autocast.

    Args:
        logits: (B, K, H, W).
        label_map: (B, H, W) integers below K, or `structures.ignore_index(K)`.

    Returns:
        () mean over labeled pixels; zero, with a gradient of zeros, where no pixel is labeled.

    Raises:
        ValueError: the sizes differ.
    """
    if logits.shape[:1] + logits.shape[2:] != label_map.shape:
        raise ValueError(
            f"logits {tuple(logits.shape)} and label map {tuple(label_map.shape)} differ in batch or size; "
            "resize one, or use upsampled_cross_entropy"
        )
    labels = label_map.long()
    ignored = ignore_index(logits.shape[1])
    with torch.autocast(logits.device.type, enabled=False):
        total = F.cross_entropy(logits.float(), labels, ignore_index=ignored, reduction="sum")
    return total / _count(labels, ignored)


def upsampled_cross_entropy(logits: Tensor, label_map: Tensor, align_corners: bool = False) -> Tensor:
    """Upsample logits bilinearly to the label map and average the cross entropy over its labeled pixels.

    Equal to `pixel_cross_entropy(F.interpolate(logits, ...), ...)`, but works in strips of rows and forms the gradient
    along the way, so that the (B, K, H, W) map never exists. Its second derivative is not defined.

    Args:
        logits: (B, K, h, w).
        label_map: (B, H, W) integers below K, or `structures.ignore_index(K)`.
        align_corners: whether the corner pixels of both maps coincide.

    Returns:
        () as `pixel_cross_entropy`.

    Raises:
        ValueError: the batch sizes differ.
    """
    _check_batch(logits, label_map)
    if logits.shape[-2:] == label_map.shape[-2:]:
        return pixel_cross_entropy(logits, label_map)
    with torch.autocast(logits.device.type, enabled=False):
        return _StripwiseCrossEntropy.apply(logits.float(), label_map.long(), align_corners)


def sampled_cross_entropy(logits: Tensor, label_map: Tensor, align_corners: bool = False) -> Tensor:
    """Estimate `upsampled_cross_entropy` from about as many pixels of the label map as there are logits.

    They are every n-th row and every m-th column, n and m being the whole times that the grid of logits fits into the
    label map, from a start drawn anew each time: each pixel is as likely as any other, so that the mean over many steps
    is the loss at full size, for the price of a loss at the grid's.

    Args:
        logits: (B, K, h, w).
        label_map: (B, H, W) integers below K, or `structures.ignore_index(K)`.
        align_corners: whether the corner pixels of both maps coincide.

    Returns:
        () as `pixel_cross_entropy`.

    Raises:
        ValueError: the batch sizes differ.
    """
    _check_batch(logits, label_map)
    rows, columns = (_sampled_places(full, few) for full, few in zip(label_map.shape[-2:], logits.shape[-2:]))
    axes = [
        _grid_positions(*axis, align_corners) for axis in ((rows, label_map.shape[-2]), (columns, label_map.shape[-1]))
    ]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).to(logits.device)  # (r, c, 2), x first
    with torch.autocast(logits.device.type, enabled=False):
        places = grid.expand(len(logits), -1, -1, -1)
        sampled = F.grid_sample(logits.float(), places, padding_mode="border", align_corners=align_corners)
    return pixel_cross_entropy(sampled, label_map[:, rows.to(label_map.device)[:, None], columns.to(label_map.device)])


def _check_batch(logits: Tensor, label_map: Tensor) -> None:
    if len(logits) != len(label_map):
        raise ValueError(f"{len(logits)} maps of logits, but {len(label_map)} label maps")


def _sampled_places(full: int, few: int) -> Tensor:
    """Draw evenly spaced places of an axis, (n,) integers from 0 to `full` - 1."""
    step = max(1, full // few)
    return torch.arange(int(torch.randint(step, ())), full, step)


def _grid_positions(places: Tensor, full: int, align_corners: bool) -> Tensor:
    """Return places of an axis as `F.grid_sample` counts them, (n,) from -1 to 1."""
    if align_corners:
        return 2 * places / max(full - 1, 1) - 1
    return (2 * places + 1) / full - 1


class _StripwiseCrossEntropy(torch.autograd.Function):
    """Loss and gradient of upsampled logits in one walk over the rows of the label map."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
        """Sum the loss strip by strip; keep the gradient with respect to `logits`."""
        wants_gradient = ctx.needs_input_grad[0]
        ignored = ignore_index(logits.shape[1])
        gradient = torch.zeros_like(logits) if wants_gradient else None
        total = logits.new_zeros(())
        for image, rows, first, last, weights in _strips(logits, labels, align_corners):
            with torch.set_grad_enabled(wants_gradient):
                source = logits[image : image + 1, :, first:last].detach().requires_grad_(wants_gradient)
                strip = _upsample_rows(source, weights, labels.shape[-1], align_corners)
                loss = F.cross_entropy(strip, labels[image : image + 1, rows], ignore_index=ignored, reduction="sum")
                if wants_gradient:
                    gradient[image : image + 1, :, first:last] += torch.autograd.grad(loss, source)[0]
            total += loss.detach()
        count = _count(labels, ignored)
        if wants_gradient:
            ctx.save_for_backward(gradient.div_(count))
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        """Scale the gradient that the forward pass formed."""
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None


def _strips(logits: Tensor, labels: Tensor, align_corners: bool):
    """Yield (image, rows of the label map, first and last source row, (lower, upper, fraction) of each row)."""
    height, width = labels.shape[-2:]
    budget = VALUES_PER_STRIP.get(logits.device.type, VALUES_PER_STRIP["cuda"])
    step = max(1, budget // (logits.shape[1] * width))
    lower, fraction = _row_positions(logits.shape[-2], height, align_corners, logits.device)
    starts = range(0, height, step)
    bounds = lower.tolist()
    for image in range(len(logits)):
        for start in starts:
            rows = slice(start, min(start + step, height))
            first = bounds[rows.start]
            last = min(bounds[rows.stop - 1] + 2, logits.shape[-2])
            below = lower[rows] - first
            above = (below + 1).clamp(max=last - first - 1)
            yield image, rows, first, last, (below, above, fraction[rows, None])


def _row_positions(grid: int, out: int, align_corners: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the source row at or above each output row, (out,) integers, and the way to the next one, (out,)."""
    rows = torch.arange(out, dtype=torch.float64)
    if align_corners:
        position = rows * ((grid - 1) / max(out - 1, 1))
    else:
        position = ((rows + 0.5) * (grid / out) - 0.5).clamp(0, grid - 1)
    lower = position.floor().clamp(max=grid - 1)
    return lower.long().to(device), (position - lower).float().to(device)


def _upsample_rows(source: Tensor, weights: tuple[Tensor, Tensor, Tensor], width: int, align_corners: bool) -> Tensor:
    """Interpolate source rows (1, K, s, w) to the rows that `weights` describe and to `width`, (1, K, r, W)."""
    below, above, fraction = weights
    strip = torch.lerp(source[:, :, below], source[:, :, above], fraction)  # (1, K, r, w)
    size: Size = (strip.shape[2], width)
    return F.interpolate(strip, size=size, mode="bilinear", align_corners=align_corners)


def _count(labels: Tensor, ignored: int) -> Tensor:
    return (labels != ignored).sum().clamp(min=1)


def check_labels(samples: Sequence[Sample], num_classes: int) -> None:
    """Raise `ValueError` for a sample without label map, or with a label outside the vocabulary."""
    ignored = ignore_index(num_classes)
    for sample in samples:
        if sample.label_map is None:
            raise ValueError(f"sample {sample.sample_id!r} has no label map; this loss needs one for every image")
        labels = sample.label_map.long()
        wrong = labels[((labels < 0) | (labels >= num_classes)) & (labels != ignored)]
        if len(wrong):
            raise ValueError(
                f"sample {sample.sample_id!r} has label {int(wrong[0])}, but its vocabulary has {num_classes} classes "
                f"(labels 0 to {num_classes - 1}, {ignored} = ignored)"
            )
