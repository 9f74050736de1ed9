"""GLIP's network as the official code writes it down: every step an operation of its own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

CLAMP = 50_000.0
SHARED_LAYERS = (2, 3, 4)


def levels_of(model: Any, images: Tensor) -> list[Tensor]:
    """Return the levels of the pyramid (B, C, h_i, w_i) of normalized images (B, 3, H, W)."""
    maps, outputs = model.backbone.patch_embed(images), []
    for number, stage in enumerate(model.backbone.stages, start=1):
        for index, block in enumerate(stage.blocks):
            shift = stage.blocks[0].attn.window // 2 * (index % 2)
            maps = maps + window_attention(block.attn, block.norm1(maps), shift)
            maps = maps + block.mlp(block.norm2(maps))
        if number in SHARED_LAYERS:
            outputs.append(model.backbone.output_norms[str(number)](maps).permute(0, 3, 1, 2).contiguous())
        if number < len(model.backbone.stages):
            corners = [maps[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
            maps = stage.downsample.reduction(stage.downsample.norm(torch.cat(corners, -1)))
    return pyramid(model.head.pyramid, outputs)


def window_attention(attention: Any, maps: Tensor, shift: int) -> Tensor:
    """Return the attention within shifted windows of maps (B, H, W, C)."""
    height, width, side = *maps.shape[1:3], attention.window
    maps = F.pad(maps, (0, 0, 0, -width % side, 0, -height % side))
    batch, rows, columns, dim = maps.shape
    maps = torch.roll(maps, (-shift, -shift), (1, 2))
    windows = _windows(maps, side)  # (B * n, M, C)
    q, k, v = attention.qkv(windows).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    scores = q * (dim // attention.heads) ** -0.5 @ k.transpose(-2, -1) + _position_bias(attention)
    if shift:
        scores = scores.unflatten(0, (batch, -1)) + _mask(rows, columns, side, shift).to(maps)[:, None]
        scores = scores.flatten(0, 1)
    mixed = attention.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    mixed = mixed.view(batch, rows // side, columns // side, side, side, dim).transpose(2, 3)
    mixed = torch.roll(mixed.reshape(batch, rows, columns, dim), (shift, shift), (1, 2))
    return mixed[:, :height, :width]


def pyramid(network: Any, maps: list[Tensor]) -> list[Tensor]:
    """Return the five levels of three maps, fine to coarse."""
    inner = [block[0](item) for block, item in zip(network.network.inner_blocks, maps)]
    merged = [inner[-1]]
    for item in reversed(inner[:-1]):
        merged.insert(0, item + F.interpolate(merged[0], size=item.shape[2:], mode="nearest"))
    levels = [block[0](item) for block, item in zip(network.network.layer_blocks, merged)]
    for index, conv in enumerate(network.extra_convs):
        levels.append(conv(F.relu(levels[-1]) if index else levels[-1]))
    return levels


def outputs_of(head: Any, levels: list[Tensor], text: Tensor, is_token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (B, N, T), offsets (B, N, 4) and centerness (B, N) for the tokens (B, T, D) of each image."""
    for block in head.tower.blocks:
        levels, text = fusion(block.fusion, levels, text, is_token)
        text = block.text_layer(text, is_token)
        levels = dynamic(block.dynamic, levels)
    unit = F.normalize(text, dim=-1)
    bias = unit @ head.alignment.token_bias + head.alignment.bias  # (B, T)
    rows = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)  # (B, N, C)
    logits = rows @ head.alignment.project(unit / 2).transpose(1, 2) / head.alignment.log_scale.exp()
    offsets = [head.box_offsets(level) * scale for level, scale in zip(levels, head.level_scales)]
    centerness = [head.centerness(level) for level in levels]
    flat = [torch.cat([part.flatten(2).transpose(1, 2) for part in parts], 1) for parts in (offsets, centerness)]
    return (logits + bias[:, None]).clamp(-CLAMP, CLAMP), flat[0], flat[1][..., 0]


def fusion(part: Any, levels: list[Tensor], text: Tensor, is_token: Tensor) -> tuple[list[Tensor], Tensor]:
    """Let the locations of all levels and the tokens read each other."""
    vision = part.vision_norm(torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1))
    text = part.text_norm(text)
    count = part.heads
    q, k, own, others = (
        layer(rows).unflatten(-1, (count, -1)).transpose(1, 2)
        for layer, rows in (
            (part.query, vision),
            (part.key, text),
            (part.vision_value, vision),
            (part.text_value, text),
        )
    )
    scores = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).clamp(-CLAMP, CLAMP)  # (B, heads, N, T)
    to_text = scores.transpose(-2, -1)
    to_text = (to_text - to_text.amax(-1, keepdim=True)).clamp(-CLAMP, CLAMP).softmax(-1)
    mask = torch.where(is_token, 1.0, -9e15)[:, None, None]
    to_vision = ((scores + mask).softmax(-1) @ others).transpose(1, 2).flatten(2)
    from_vision = (to_text @ own).transpose(1, 2).flatten(2)
    vision = vision + part.vision_gain * part.vision_out(to_vision)
    sizes = [level.shape[2:] for level in levels]
    parts = vision.split([height * width for height, width in sizes], 1)
    maps = [rows.transpose(1, 2).unflatten(2, tuple(size)).contiguous() for rows, size in zip(parts, sizes)]
    return maps, text + part.text_gain * part.text_out(from_vision)


def dynamic(block: Any, levels: list[Tensor]) -> list[Tensor]:
    """Compute each level anew from itself and its neighbors."""
    return [_activated(block.activation, _merged(block, levels, index)) for index in range(len(levels))]


def _merged(block: Any, levels: list[Tensor], index: int) -> Tensor:
    level = levels[index]
    sampling = block.sampling(level)
    offsets, masks = sampling[:, :18].contiguous(), sampling[:, 18:].sigmoid()
    branches = [_sampled(block.from_same, level, offsets, masks)]
    if index:
        branches.append(_sampled(block.from_finer, levels[index - 1], offsets, masks, stride=2))
    if index + 1 < len(levels):
        coarse = levels[index + 1]
        size = coarse.shape[2:]
        cut = [
            part.flatten(1)[:, : n * size.numel()].unflatten(1, (n, *size)) for part, n in ((offsets, 18), (masks, 9))
        ]
        branch = _sampled(block.from_coarser, coarse, *cut)
        branches.append(F.interpolate(branch, size=level.shape[2:], mode="bilinear", align_corners=True))
    weights = [_hard_sigmoid(F.relu(block.level_weight(branch.mean((2, 3), keepdim=True)))) for branch in branches]
    return torch.stack([branch * weight for branch, weight in zip(branches, weights)]).mean(0)


def _sampled(part: Any, level: Tensor, offsets: Tensor, masks: Tensor, stride: int = 1) -> Tensor:
    return part.norm(deform_conv2d(level, offsets, part.conv.weight, part.conv.bias, stride, 1, mask=masks))


def _activated(part: Any, level: Tensor) -> Tensor:
    theta = _hard_sigmoid(part.fc2(F.relu(part.fc1(level.mean((2, 3))))))[..., None, None]
    a1, b1, a2, b2 = theta.chunk(4, 1)
    return torch.maximum(level * (2 * a1) + b1 - 0.5, level * (2 * a2 - 1) + b2 - 0.5)


def _hard_sigmoid(x: Tensor) -> Tensor:
    return F.relu6(x + 3) / 6


def _windows(maps: Tensor, side: int) -> Tensor:
    """Cut maps (B, H, W, C) into windows (B * n, side * side, C)."""
    parts = maps.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
    return parts.flatten(0, 2).flatten(1, 2)


def _mask(rows: int, columns: int, side: int, shift: int) -> Tensor:
    """Return -100 for pairs of a window (n, M, M) that come from different ends of the maps."""
    regions = torch.zeros(1, rows, columns, 1)
    cuts = (slice(0, -side), slice(-side, -shift), slice(-shift, None))
    for number, (first, second) in enumerate((first, second) for first in cuts for second in cuts):
        regions[:, first, second] = number
    numbers = _windows(regions, side)[..., 0]  # (n, M)
    return torch.where(numbers[:, None] == numbers[:, :, None], 0.0, -100.0)


def _position_bias(attention: Any) -> Tensor:
    """Return the bias (heads, M, M) of relative positions."""
    side = attention.window
    steps = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)  # (2, M)
    apart = steps[:, :, None] - steps[:, None] + side - 1  # (2, M, M)
    return attention.relative_position_bias_table[apart[0] * (2 * side - 1) + apart[1]].permute(2, 0, 1)
