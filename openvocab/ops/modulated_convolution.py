"""Modulated deformable 3 x 3 convolution at the speed of a CPU's matrix products.

    torchvision.ops.deform_conv2d(x, offsets, weight, bias, stride, padding=1, mask=masks)

Equal up to rounding.
"""

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

POINTS = 9
"""Of the kernel."""
LOCATIONS_AT_ONCE = 256
"""Locations whose samples are held at once without a gradient: they stay in the cache until they are multiplied."""


def modulated_convolution(
    x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1
) -> Tensor:
    """Convolve a map at shifted sampling points, each weighted by a mask.

    On a CPU the samples of all channels are a weighted sum of four pixels, read by `embedding_bag`, and one matrix
    product follows: several times as fast as torchvision's kernel, also backward. That kernel is used on other devices.

    Args:
        x: (B, C, H, W); fastest in channels-last memory.
        offsets: (B, 18, h', w'), for each kernel point, row by row, (dy, dx) in pixels.
        masks: (B, 9, h', w'), factor of each sample.
        weight: (O, C, 3, 3).
        bias: (O,), or None.
        stride: of the convolution; its padding is 1, so h' = (H - 1) // stride + 1.

    Returns:
        (B, O, h', w') in the type of `x`. Sampling points are float32 (or float64); a sample outside
        (-1, H) x (-1, W) is 0.

    Raises:
        ValueError: offsets or masks do not fit the size of the result.

    Reference: Deformable ConvNets v2, arXiv 1811.11168.
    """
    size = tuple((side - 1) // stride + 1 for side in x.shape[-2:])
    for name, values, channels in (("offsets", offsets, 2 * POINTS), ("masks", masks, POINTS)):
        if values.shape != (len(x), channels, *size):
            raise ValueError(f"{name}: expected {(len(x), channels, *size)}, got {tuple(values.shape)}")
    if x.device.type != "cpu":
        return _by_torchvision(x, offsets, masks, weight, bias, stride)
    # few processors multiply float16, and others take thirty times as long
    dtype = torch.float32 if x.dtype == torch.float16 else x.dtype
    bias = None if bias is None else bias.to(dtype)
    return _by_products(x.to(dtype), offsets, masks, weight.to(dtype), bias, stride).to(x.dtype)


def reread(values: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Read offsets or masks of another size as the official kernel does: the first numbers in memory.

    GLIP convolves a coarser map with the offsets of a finer one, and its kernel, which takes only their address,
    indexes them by the size of the result.

    Args:
        values: (B, channels, h, w), row-major.
        channels: their number.
        size: (h', w') of the result, not larger than (h, w).

    Returns:
        (B, channels, h', w').
    """
    return values.flatten(1)[:, : channels * size[0] * size[1]].unflatten(1, (channels, *size))


def _by_torchvision(
    x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, bias: Tensor | None, stride: int
) -> Tensor:
    # in float32: torchvision samples at positions of the map's type, where bfloat16 is pixels off
    dtype = torch.promote_types(x.dtype, torch.float32)
    parts = [part.to(dtype) for part in (x, offsets, weight)]
    bias = None if bias is None else bias.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        result = torchvision.ops.deform_conv2d(*parts, bias, stride, padding=1, mask=masks.to(dtype))
    return result.to(x.dtype)


def _by_products(x: Tensor, offsets: Tensor, masks: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """Convolve by one sum per sample and a matrix product."""
    pixels, factors = _samples(x, offsets, masks, stride)  # (B h' w', 9, 4)
    table = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])  # (B H W, C): the channels of a pixel are adjacent in memory
    kernel = weight.permute(0, 2, 3, 1).flatten(1)  # (O, 9 C)
    needs_gradient = torch.is_grad_enabled() and any(part.requires_grad for part in (x, offsets, masks, weight))
    if needs_gradient and x.dtype == torch.bfloat16:
        # the backward pass adds up the gradients of all samples of a pixel
        table = table.float()
    # every part has a gradient of the whole table, so that parts cost time if there are gradients
    at_once = max(1, len(pixels)) if needs_gradient else LOCATIONS_AT_ONCE
    rows = [_convolve(table, *parts, kernel, bias) for parts in zip(pixels.split(at_once), factors.split(at_once))]
    result = torch.cat(rows).view(len(x), *offsets.shape[-2:], -1)  # (B, h', w', O)
    return result.permute(0, 3, 1, 2)


def _convolve(table: Tensor, pixels: Tensor, factors: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Return the results (n, O) of n locations from their samples' pixels and factors (n, 9, 4)."""
    samples = F.embedding_bag(
        pixels.flatten(0, 1), table, mode="sum", per_sample_weights=factors.flatten(0, 1).to(table.dtype)
    )  # (9 n, C)
    return F.linear(samples.view(len(pixels), -1).to(kernel.dtype), kernel, bias)


def _samples(x: Tensor, offsets: Tensor, masks: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return which pixels each sample reads and the weight of each of them.

    Returns:
        Indices (B h' w', 9, 4) int32 of pixels among B * H * W, and weights of the same shape, float32 or float64.
    """
    batch, _, height, width = x.shape
    dtype = torch.promote_types(offsets.dtype, torch.float32)
    rows, columns = offsets.shape[-2:]
    shifts = offsets.to(dtype).unflatten(1, (POINTS, 2)).permute(0, 3, 4, 1, 2)  # (B, h', w', 9, 2)
    steps = torch.arange(POINTS, device=x.device)
    # the kernel reaches one pixel up and left of its location
    down = shifts[..., 0] + (torch.arange(rows, device=x.device) * stride - 1)[:, None, None] + steps // 3
    across = shifts[..., 1] + (torch.arange(columns, device=x.device) * stride - 1)[:, None] + steps % 3
    row_index, row_weights = _neighbors(down, height)  # (B, h', w', 9, 2)
    column_index, column_weights = _neighbors(across, width)
    first = torch.arange(batch, device=x.device, dtype=torch.int32).view(-1, 1, 1, 1, 1, 1) * (height * width)
    pixels = first + row_index[..., :, None] * width + column_index[..., None, :]  # (B, h', w', 9, 2, 2)
    row_weights = row_weights * masks.to(dtype).permute(0, 2, 3, 1)[..., None]
    factors = row_weights[..., :, None] * column_weights[..., None, :]
    return pixels.flatten(4).flatten(0, 2), factors.flatten(4).flatten(0, 2)


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the two pixels around each position on an axis, and their bilinear weights; 0 for pixels outside.

    Args:
        position: (...), in pixels.
        size: of the axis.

    Returns:
        Indices (..., 2) int32 within the axis, and weights (..., 2).
    """
    # positions far outside, or not finite, would overflow an integer; every weight there is 0
    lower = position.detach().nan_to_num(-2).clamp(-2, size).floor()
    fraction = position - lower
    index = torch.stack([lower, lower + 1], dim=-1)  # (..., 2)
    inside = (index >= 0) & (index < size) & ((position > -1) & (position < size))[..., None]
    weights = torch.stack([1 - fraction, fraction], dim=-1).where(inside, 0)
    return index.clamp(0, size - 1).int(), weights
