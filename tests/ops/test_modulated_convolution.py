"""The modulated deformable convolution against torchvision's kernel, plain loops and numeric gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import deform_conv2d

from openvocab.ops import modulated_convolution as module
from openvocab.ops.modulated_convolution import modulated_convolution, reread


def make_inputs(size=(9, 13), stride=1, batch=2, dim=6, out=5, spread=3.0, dtype=torch.float32):
    """Points up to several pixels outside of the map, and a few far away."""
    generator = torch.Generator().manual_seed(0)
    result = [(side - 1) // stride + 1 for side in size]
    x = torch.randn(batch, dim, *size, generator=generator, dtype=dtype)
    offsets = spread * torch.randn(batch, 18, *result, generator=generator, dtype=dtype)
    offsets[0, 3, 0, 0], offsets[0, 4, -1, -1] = 1e9, -1e9
    masks = torch.rand(batch, 9, *result, generator=generator, dtype=dtype)
    weight = torch.randn(out, dim, 3, 3, generator=generator, dtype=dtype) / 7
    return x, offsets, masks, weight, torch.randn(out, generator=generator, dtype=dtype)


@pytest.mark.parametrize("at_once", [7, 256])
@pytest.mark.parametrize(("size", "stride"), [((9, 13), 1), ((9, 13), 2), ((8, 6), 2), ((1, 1), 1), ((1, 5), 2)])
def test_it_is_torchvisions(size, stride, at_once, monkeypatch, device):
    monkeypatch.setattr(module, "LOCATIONS_AT_ONCE", at_once)
    x, offsets, masks, weight, bias = (part.to(device) for part in make_inputs(size, stride))
    expected = deform_conv2d(x, offsets, weight, bias, stride, padding=1, mask=masks)
    for layout in (torch.contiguous_format, torch.channels_last):
        actual = modulated_convolution(x.to(memory_format=layout), offsets, masks, weight, bias, stride)
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_without_offsets_it_is_a_convolution():
    x, offsets, masks, weight, bias = make_inputs()
    plain = modulated_convolution(x, torch.zeros_like(offsets), torch.ones_like(masks), weight, bias)
    torch.testing.assert_close(plain, F.conv2d(x, weight, bias, padding=1), rtol=1e-5, atol=1e-5)
    halved = modulated_convolution(x, torch.zeros_like(offsets), torch.full_like(masks, 0.5), weight)
    torch.testing.assert_close(halved, F.conv2d(x, weight, padding=1) / 2, rtol=1e-5, atol=1e-5)


def test_a_point_is_read_bilinearly_and_zero_outside():
    x = torch.arange(12.0).view(1, 1, 3, 4)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 2] = 1  # the point right of the center, number 5
    offsets, masks = torch.zeros(1, 18, 3, 4), torch.ones(1, 9, 3, 4)
    offsets[:, 10], offsets[:, 11] = 0.25, -0.5  # dy, dx
    result = modulated_convolution(x, offsets, masks, weight)[0, 0]
    for row in range(3):
        for column in range(4):
            y, across = row + 0.25, column + 0.5
            value = sum(
                (1 - abs(y - i)) * (1 - abs(across - j)) * x[0, 0, i, j].item()
                for i in (math.floor(y), math.floor(y) + 1)
                for j in (math.floor(across), math.floor(across) + 1)
                if i < 3 and j < 4
            )
            assert result[row, column].item() == pytest.approx(value)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_those_of_finite_differences(stride):
    x, offsets, masks, weight, bias = make_inputs((3, 4), stride, 1, 2, 2, 0.7, torch.float64)
    offsets = offsets.clamp(-5, 5)
    inputs = [part.requires_grad_() for part in (x, offsets, masks, weight, bias)]
    assert torch.autograd.gradcheck(lambda *parts: modulated_convolution(*parts, stride), inputs)


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_torchvisions(stride):
    gradients = []
    for convolve in (modulated_convolution, None):
        x, offsets, masks, weight, bias = (part.requires_grad_() for part in make_inputs(stride=stride))
        if convolve is None:
            result = deform_conv2d(x, offsets, weight, bias, stride, padding=1, mask=masks)
        else:
            result = convolve(x, offsets, masks, weight, bias, stride)
        result.square().sum().backward()
        gradients.append([part.grad for part in (x, offsets, masks, weight, bias)])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_reads_the_right_pixels(dtype, gradient):
    """At column 300, bfloat16 knows every second pixel only."""
    x = torch.arange(320.0).sin().view(1, 1, 1, 320).repeat(1, 3, 2, 1)
    offsets, masks, weight = torch.zeros(1, 18, 2, 320), torch.ones(1, 9, 2, 320), torch.ones(1, 3, 3, 3) / 8
    offsets[:, 1::2] = 0.5
    expected = modulated_convolution(x, offsets, masks, weight)
    parts = [part.to(dtype).requires_grad_(gradient) for part in (x, offsets, masks, weight)]
    actual = modulated_convolution(*parts)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.detach().float(), expected, rtol=0.02, atol=0.02)
    if gradient:
        actual.float().sum().backward()
        assert all(part.grad.dtype == dtype and part.grad.isfinite().all() for part in parts)


def test_offsets_that_are_not_finite_reach_only_their_own_location():
    x, offsets, masks, weight, bias = make_inputs()
    expected = modulated_convolution(x, offsets, masks, weight, bias)
    offsets[1, 0, 4, 4], offsets[1, 1, 5, 5] = math.nan, math.inf
    changed = (modulated_convolution(x, offsets, masks, weight, bias) - expected).abs().amax(1) > 0
    assert set(map(tuple, changed.nonzero().tolist())) <= {(1, 4, 4), (1, 5, 5)}


def test_offsets_of_a_finer_map_are_reread_as_memory():
    offsets = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)
    read = reread(offsets, 3, (2, 3))
    for image in range(2):
        numbers = offsets[image].flatten().tolist()
        assert read[image].flatten().tolist() == numbers[: 3 * 2 * 3]
    by_column = offsets.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)  # another order in memory
    assert torch.equal(reread(by_column, 3, (2, 3)), read)


def test_wrong_sizes_are_named():
    x, offsets, masks, weight, bias = make_inputs()
    with pytest.raises(ValueError, match=r"offsets: expected \(2, 18, 5, 7\), got \(2, 18, 9, 13\)"):
        modulated_convolution(x, offsets, masks, weight, bias, 2)
    with pytest.raises(ValueError, match=r"masks: expected \(2, 9, 9, 13\), got \(2, 8, 9, 13\)"):
        modulated_convolution(x, offsets, masks[:, 1:], weight, bias)
