"""RoIAlign at the speed of a CPU's memory.

    torchvision.ops.roi_align(values, regions, output_size, 1 / stride, sampling_ratio, aligned)

Equal up to rounding.
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def roi_align(
    values: Tensor, regions: Tensor, output_size: int, stride: float, sampling_ratio: int, aligned: bool = True
) -> Tensor:
    """Pool the features of boxes from a map; each cell is the mean of bilinear samples.

    On a CPU every cell is a weighted sum of pixels, and all cells are one `embedding_bag`: at least ten times as fast
    as torchvision's kernel, also backward. That kernel is used on other devices, and if the number of samples depends
    on the box.

    Args:
        values: (B, C, h, w), the map.
        regions: (N, 5) float32, index in the batch and box x1 y1 x2 y2 in pixels of the input frame.
        output_size: s, rows and columns of cells.
        stride: stride of the map, in pixels.
        sampling_ratio: samples per cell along each side; 0 takes as many as the cell has pixels of the map.
        aligned: whether pixel values are at pixel centers; otherwise half a pixel off.

    Returns:
        (N, C, s, s) in the type of `values`. Positions are always float32, and so are sums with a gradient. Boxes get
        no gradient.

    Reference: Mask R-CNN, arXiv 1703.06870; sampling and borders as in torchvision and Detectron.
    """
    if values.device.type != "cpu" or sampling_ratio <= 0:
        # in float32: torchvision samples at positions of the map's type, where bfloat16 is pixels off
        pooled = torchvision.ops.roi_align(
            values.float(), regions, output_size, 1 / stride, sampling_ratio, aligned=aligned
        )
        return pooled.to(values.dtype)
    batch, channels, height, width = values.shape
    corners = regions[:, 1:].detach() / stride - (0.5 if aligned else 0)  # (N, 4)
    extent = corners[:, 2:] - corners[:, :2]  # (N, 2)
    if not aligned:
        # the older convention, as in torchvision: a box covers at least one pixel of the map
        extent = extent.clamp(min=1)
    columns, column_weights = _samples(corners[:, 0], extent[:, 0], output_size, sampling_ratio, width)  # (N, s, 2r)
    rows, row_weights = _samples(corners[:, 1], extent[:, 1], output_size, sampling_ratio, height)
    first = regions[:, 0].int() * (height * width)  # (N,), row of the table at which the image starts
    # the samples of a cell are a grid: its pixels and weights are products of those of the two axes
    pixels = first.view(-1, 1, 1, 1, 1) + rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]  # (N, s, s, 2r, 2r)
    # (B h w, C): one row per pixel, so that the channels of a sample are adjacent in memory
    table = values.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    needs_gradient = torch.is_grad_enabled() and values.requires_grad
    if needs_gradient:
        # the backward pass adds up the gradients of all samples of a pixel
        table = table.float()
    cells = F.embedding_bag(
        pixels.flatten(3).flatten(0, 2),
        table,
        mode="sum",
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(table),
    )  # (N s s, C)
    cells = cells.to(values.dtype).view(-1, output_size, output_size, channels).permute(0, 3, 1, 2)  # (N, C, s, s)
    # contiguous in training: the group norms that follow are twice as fast in bfloat16
    return cells.contiguous() if needs_gradient else cells


def _samples(start: Tensor, extent: Tensor, cells: int, per_cell: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the pixels along one axis that each cell reads, and the weight of each pixel.

    Args:
        start, extent: (N,) of the boxes, in pixels of the map.
        cells: number of cells per box.
        per_cell: r samples per cell; each sample lies between two pixels.
        size: size of the axis. Samples up to a pixel outside take the value of the border, those further away 0.

    Returns:
        Indices (N, cells, 2r) int32 and weights (N, cells, 2r) float32.
    """
    cell = (extent / cells)[:, None]  # (N, 1)
    number = torch.arange(cells, device=start.device).repeat_interleave(per_cell)  # (cells r,)
    within = (torch.arange(per_cell, device=start.device) + 0.5).repeat(cells) / per_cell  # (cells r,)
    position = start[:, None] + number * cell + within * cell  # (N, cells r)
    inside = (position >= -1) & (position <= size)  # False for NaN
    # any index within the map does for samples outside, whose weight is 0
    position = position.where(inside, 0).clamp(0, size - 1)
    lower = position.floor()
    upper = (lower + 1).clamp(max=size - 1)
    fraction = position - lower  # (N, cells r)
    pixels = torch.stack([lower, upper], dim=-1).int()  # (N, cells r, 2)
    # 1 / r on each axis: a cell is the mean of r * r samples
    weights = torch.stack([1 - fraction, fraction], dim=-1) * inside[..., None] / per_cell
    return pixels.view(-1, cells, 2 * per_cell), weights.view(-1, cells, 2 * per_cell)
