"""RoIAlign that CPUs compute as fast as they can read memory.

torchvision.ops.roi_align(map, boxes, size, scale, sampling_ratio, aligned=True)
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor


def roi_align(
    values: Tensor, regions: Tensor, output_size: int, stride: float, sampling_ratio: int, aligned: bool = True
) -> Tensor:
    """Read boxes from a map, each cell as the mean of bilinear samples.

    On a CPU every cell is a weighted sum of pixels, one `embedding_bag` for all: at least ten times as fast as
    torchvision's kernel, backward too. That one is used elsewhere, and where the number of samples depends on the box.

    Args:
        values: the map, (B, C, h, w).
        regions: (N, 5) float32, index in the batch and box in the input frame.
        output_size: rows and columns of cells.
        stride: of the map, in pixels.
        sampling_ratio: samples a side in each cell; 0 takes as many as the box has pixels of the map.
        aligned: pixels lie at their centers, half a pixel off otherwise.

    Returns:
        (N, C, output_size, output_size) in the type of `values`; positions are float32 always, and so are sums that
        a gradient goes through. Boxes get no gradient.

    Reference: Mask R-CNN, arXiv 1703.06870; sampling and borders as in torchvision and Detectron.
    """
    if values.device.type != "cpu" or sampling_ratio <= 0:
        # in float32: torchvision samples at positions of the map's type, where bfloat16 is pixels off
        read = torchvision.ops.roi_align(
            values.float(), regions, output_size, 1 / stride, sampling_ratio, aligned=aligned
        )
        return read.to(values.dtype)
    batch, channels, height, width = values.shape
    corners = regions[:, 1:].detach() / stride - (0.5 if aligned else 0)  # (N, 4)
    extent = corners[:, 2:] - corners[:, :2]
    if not aligned:
        extent = extent.clamp(min=1)
    columns, column_weights = _samples(corners[:, 0], extent[:, 0], output_size, sampling_ratio, width)  # (N, s, 2r)
    rows, row_weights = _samples(corners[:, 1], extent[:, 1], output_size, sampling_ratio, height)
    first = regions[:, 0].int() * (height * width)  # (N,), of the image in the table
    pixels = first.view(-1, 1, 1, 1, 1) + rows[:, :, None, :, None] * width + columns[:, None, :, None, :]
    weights = row_weights[:, :, None, :, None] * column_weights[:, None, :, None, :]  # (N, s, s, 2r, 2r)
    table = values.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    learns = torch.is_grad_enabled() and values.requires_grad
    if learns:
        table = table.float()
    cells = F.embedding_bag(
        pixels.flatten(3).flatten(0, 2),
        table,
        mode="sum",
        per_sample_weights=weights.flatten(3).flatten(0, 2).to(table),
    )  # (N s s, C)
    cells = cells.to(values.dtype).view(-1, output_size, output_size, channels).permute(0, 3, 1, 2)
    return cells.contiguous() if learns else cells  # training has group norms, twice as fast this way in bfloat16


def _samples(start: Tensor, extent: Tensor, cells: int, per_cell: int, size: int) -> tuple[Tensor, Tensor]:
    """Return the pixels along one axis of `size` that each cell reads, and the weight of each, both (N, cells, 2r).

    Args:
        start, extent: (N,) of the boxes, in pixels of the map.
        cells: of a box.
        per_cell: r, the samples in each; a sample lies between two pixels.
        size: of the axis. Samples up to a pixel outside read the border, those further away read 0.
    """
    cell = (extent / cells)[:, None]  # (N, 1)
    number = torch.arange(cells, device=start.device).repeat_interleave(per_cell)  # (cells r,)
    within = (torch.arange(per_cell, device=start.device) + 0.5).repeat(cells) / per_cell
    place = start[:, None] + number * cell + within * cell  # (N, cells r)
    counts = (place >= -1) & (place <= size)  # False of NaN
    place = place.where(counts, 0).clamp(0, size - 1)
    before = place.floor()
    after = (before + 1).clamp(max=size - 1)
    share = place - before  # of the pixel after
    pixels = torch.stack([before, after], dim=-1).int()
    weights = torch.stack([1 - share, share], dim=-1) * counts[..., None] / per_cell
    return pixels.view(-1, cells, 2 * per_cell), weights.view(-1, cells, 2 * per_cell)
