"""The dynamic head block by plain formulas and torchvision's kernel."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from openvocab.heads.dynamic_head import DynamicBlock, DynamicReLU

SIZES = ((11, 14), (6, 7), (3, 4), (2, 2))


def make_block() -> DynamicBlock:
    torch.manual_seed(0)
    block = DynamicBlock(32)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return block


def make_levels() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 32, *size, generator=generator) for size in SIZES]


def hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    return (x + 3).clamp(0, 6) / 6


def convolve(part, x, offsets, masks, stride=1):
    mixed = deform_conv2d(x, offsets, part.conv.weight, part.conv.bias, stride, padding=1, mask=masks)
    groups = mixed.unflatten(1, (16, -1))
    mean, variance = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), keepdim=True, unbiased=False)
    normed = ((groups - mean) / (variance + 1e-5).sqrt()).flatten(1, 2)
    return normed * part.norm.weight[:, None, None] + part.norm.bias[:, None, None]


def one_level(block: DynamicBlock, levels: list[torch.Tensor], i: int) -> torch.Tensor:
    """The block as the paper's figure and the official kernel have it, image by image."""
    results = []
    for image in range(len(levels[0])):
        x = [level[image : image + 1] for level in levels]
        sampling = F.conv2d(x[i], block.sampling.weight, block.sampling.bias, padding=1)
        offsets, masks = sampling[:, :18].contiguous(), sampling[:, 18:].sigmoid().contiguous()
        branches = [convolve(block.from_same, x[i], offsets, masks)]
        if i > 0:
            branches.append(convolve(block.from_finer, x[i - 1], offsets, masks, 2))
        if i + 1 < len(x):
            h, w = x[i + 1].shape[2:]
            first = offsets.view(-1)[: 18 * h * w].view(1, 18, h, w), masks.view(-1)[: 9 * h * w].view(1, 9, h, w)
            mixed = convolve(block.from_coarser, x[i + 1], *first)
            branches.append(F.interpolate(mixed, size=x[i].shape[2:], mode="bilinear", align_corners=True))
        weights = [
            F.conv2d(b.mean((2, 3), keepdim=True), block.level_weight.weight, block.level_weight.bias) for b in branches
        ]
        mean = torch.stack([b * hard_sigmoid(w.relu()) for b, w in zip(branches, weights)]).mean(0)
        fc1, fc2 = block.activation.fc1, block.activation.fc2
        theta = hard_sigmoid(fc2(fc1(mean.mean((2, 3))).relu())).view(4, -1, 1, 1)
        a1, b1, a2, b2 = 2 * theta[0] - 1 + 1, theta[1] - 0.5, 2 * theta[2] - 1, theta[3] - 0.5
        results.append(torch.max(a1 * mean + b1, a2 * mean + b2))
    return torch.cat(results)


@torch.no_grad()
def test_every_level_is_what_the_plain_formulas_give():
    block, levels = make_block(), make_levels()
    for i, level in enumerate(block(levels)):
        torch.testing.assert_close(level, one_level(block, levels, i), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_the_memory_order_of_levels_does_not_matter():
    block, levels = make_block(), make_levels()
    other = block([level.to(memory_format=torch.channels_last) for level in levels])
    torch.testing.assert_close(block(levels), other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_single_level_has_no_neighbors():
    block, levels = make_block(), make_levels()[:1]
    torch.testing.assert_close(block(levels)[0], one_level(block, levels, 0), rtol=1e-4, atol=1e-5)


def test_all_weights_get_gradients():
    block = make_block()
    sum(level.square().sum() for level in block(make_levels())).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in block.parameters())


@torch.no_grad()
def test_the_activation_is_a_relu_where_its_coefficients_are_neutral():
    activation = DynamicReLU(16)
    activation.fc2.weight.zero_()
    activation.fc2.bias.zero_()  # every coefficient is 1/2
    x = torch.randn(1, 16, 4, 4)
    torch.testing.assert_close(activation(x), x.relu())


def test_a_width_without_groups_is_refused():
    with pytest.raises(ValueError, match="dim: expected a multiple of 16, the groups of the norms, got 24"):
        DynamicBlock(24)
