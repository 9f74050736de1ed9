"""Cross entropy of pixels, at the logits' own size or at the size of the label map."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.ops.upsampled_cross_entropy import mean_upsampled_cross_entropy
from openvocab.structures import Sample, ignore_index


def pixel_cross_entropy(logits: Tensor, label_map: Tensor) -> Tensor:
    """Average the cross entropy over the labeled pixels of a batch, in float32 even under autocast.

    Args:
        logits: (B, K, H, W).
        label_map: (B, H, W) integers below K, or `structures.ignore_index(K)`.

    Returns:
        () mean over labeled pixels; zero, with a gradient of zeros, if no pixel is labeled.

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
        # sum and count separately: the mean of F.cross_entropy over no labeled pixel is NaN
        total = F.cross_entropy(logits.float(), labels, ignore_index=ignored, reduction="sum")
    return total / (labels != ignored).sum().clamp(min=1)


def upsampled_cross_entropy(logits: Tensor, label_map: Tensor, align_corners: bool = False) -> Tensor:
    """Upsample logits bilinearly to the label map and average the cross entropy over its labeled pixels.

    It equals `pixel_cross_entropy(F.interpolate(logits, ...), label_map)`, but the upsampled (B, K, H, W) never exists
    (see `ops/upsampled_cross_entropy.py`). Its second derivative is not defined.

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
        labels, ignored = label_map.long(), ignore_index(logits.shape[1])
        return mean_upsampled_cross_entropy(logits.float(), labels, ignored, align_corners)


def sampled_cross_entropy(logits: Tensor, label_map: Tensor, align_corners: bool = False) -> Tensor:
    """Estimate `upsampled_cross_entropy` from about as many pixels of the label map as there are logits.

    They are every n-th row and every m-th column from a random start, where n and m are how many times the grid of
    logits fits into the label map along each axis. Every pixel is equally likely, so that the mean over many steps is
    the loss at full size, at the cost of a loss on the grid.

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
    height, width = label_map.shape[-2:]
    rows, columns = (_draw_indices(size, count) for size, count in zip((height, width), logits.shape[-2:]))
    axes = [_grid_positions(rows, height, align_corners), _grid_positions(columns, width, align_corners)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1).to(logits.device)  # (r, c, 2), x first
    with torch.autocast(logits.device.type, enabled=False):
        # one draw for all images of the batch, so that one indexing takes the labels of all of them
        positions = grid.expand(len(logits), -1, -1, -1)  # (B, r, c, 2)
        sampled = F.grid_sample(logits.float(), positions, padding_mode="border", align_corners=align_corners)
    return pixel_cross_entropy(sampled, label_map[:, rows.to(label_map.device)[:, None], columns.to(label_map.device)])


def _check_batch(logits: Tensor, label_map: Tensor) -> None:
    if len(logits) != len(label_map):
        raise ValueError(f"{len(logits)} maps of logits, but {len(label_map)} label maps; give one per image")


def _draw_indices(size: int, count: int) -> Tensor:
    """Draw about `count` evenly spaced indices of an axis of length `size`, (n,) int64."""
    # a random start below the step makes every index equally likely
    step = max(1, size // count)
    return torch.arange(int(torch.randint(step, ())), size, step)


def _grid_positions(indices: Tensor, size: int, align_corners: bool) -> Tensor:
    """Return indices (n,) of an axis of length `size` in the units of `F.grid_sample`, (n,) from -1 to 1."""
    if align_corners:
        return 2 * indices / max(size - 1, 1) - 1
    return (2 * indices + 1) / size - 1


def check_labels(samples: Sequence[Sample], num_classes: int) -> None:
    """Check the label maps (H, W) of a batch.

    Raises:
        ValueError: a sample without a label map, or with a label outside the vocabulary.
    """
    ignored = ignore_index(num_classes)
    for sample in samples:
        if sample.label_map is None:
            raise ValueError(f"sample {sample.sample_id!r} has no label map; this loss needs one for every image")
        labels = sample.label_map.long()
        unknown = labels[((labels < 0) | (labels >= num_classes)) & (labels != ignored)]
        if len(unknown):
            raise ValueError(
                f"sample {sample.sample_id!r} has label {int(unknown[0])}, but its vocabulary has {num_classes} "
                f"classes (labels 0 to {num_classes - 1}, {ignored} = ignored)"
            )
