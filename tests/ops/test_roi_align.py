"""RoIAlign against torchvision's kernel, whose CPU version is the reference, and against sums by hand."""

import pytest
import torch
import torchvision
from detection_parts import make_boxes

from openvocab.ops.roi_align import roi_align

STRIDE = 8
SIZE = (96, 136)


def make_map(batch=3, channels=5, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, channels, SIZE[0] // STRIDE, SIZE[1] // STRIDE, generator=generator).to(dtype)


def make_regions():
    """Boxes of three images: inside, across every border, outside, larger than the map, without area, turned around."""
    boxes = make_boxes(30, SIZE, 0, (2, 90))
    corners = torch.tensor([[-20.0, -20, 12, 12], [120, 80, 150, 110], [-20, 70, 30, 120], [100, -30, 140, 10]])
    far = torch.tensor([[500.0, 500, 540, 540], [-300, 10, -200, 40]])
    odd = torch.tensor([[-50.0, -40, 300, 200], [33, 17, 33, 17], [0, 0, 0, 50], [60, 60, 20, 30], [0, 0, 136, 96]])
    boxes = torch.cat([boxes, corners, far, odd])
    return torch.cat([(torch.arange(len(boxes)) % 3)[:, None].float(), boxes], dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
def test_regions_and_gradients_are_torchvisions(aligned, sampling_ratio):
    ours, theirs = make_map().requires_grad_(), make_map().requires_grad_()
    regions = make_regions()
    read = roi_align(ours, regions, 7, STRIDE, sampling_ratio, aligned)
    expected = torchvision.ops.roi_align(theirs, regions, 7, 1 / STRIDE, sampling_ratio, aligned)
    torch.testing.assert_close(read, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(read.shape, generator=torch.Generator().manual_seed(1))
    (read * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_the_memory_order_of_the_map_does_not_matter():
    values, regions = make_map(), make_regions()
    expected = roi_align(values, regions, 4, STRIDE, 2)
    assert torch.equal(roi_align(values.contiguous(memory_format=torch.channels_last), regions, 4, STRIDE, 2), expected)
    assert torch.equal(roi_align(values.transpose(2, 3).contiguous().transpose(2, 3), regions, 4, STRIDE, 2), expected)


def test_one_cell_of_one_sample_by_hand():
    values = torch.arange(12.0).view(1, 1, 3, 4)  # value = 4 row + column
    region = torch.tensor([[0.0, 4, 4, 8, 12]])  # center (6, 8): column 6 / 4 - 0.5 = 1, row 1.5
    assert roi_align(values, region, 1, 4, 1).item() == pytest.approx(4 * 1.5 + 1)
    assert roi_align(values, region, 1, 4, 1, aligned=False).item() == pytest.approx(4 * 2 + 1.5)


def test_gradients_of_a_low_precision_map_are_summed_in_float32():
    """In bfloat16 a sum of ones stops at 256."""
    values = torch.ones(1, 1, 1, 1, dtype=torch.bfloat16, requires_grad=True)
    regions = torch.tensor([[0.0, 0, 0, 8, 8]]).repeat(1000, 1)
    read = roi_align(values, regions, 1, 8, 1)
    assert read.dtype == torch.bfloat16
    read.float().sum().backward()
    assert values.grad.item() == pytest.approx(1000, rel=0.01)


def test_no_regions_have_a_gradient():
    values = make_map().requires_grad_()
    read = roi_align(values, torch.zeros(0, 5), 7, STRIDE, 2)
    assert read.shape == (0, 5, 7, 7)
    read.sum().backward()
    assert torch.equal(values.grad, torch.zeros_like(values))


def test_a_box_that_is_not_a_number_spoils_no_other():
    values, regions = make_map(), make_regions()
    broken = torch.cat([regions[:2], torch.tensor([[1.0, torch.nan, 0, torch.inf, 9]]), regions[2:4]])
    read = roi_align(values, broken, 3, STRIDE, 2)
    assert torch.equal(read[[0, 1, 3, 4]], roi_align(values, regions[:4], 3, STRIDE, 2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_both_kernels_agree():
    values, regions = make_map(), make_regions()
    expected = roi_align(values, regions, 7, STRIDE, 2)
    torch.testing.assert_close(
        roi_align(values.cuda(), regions.cuda(), 7, STRIDE, 2).cpu(), expected, atol=1e-4, rtol=1e-4
    )
