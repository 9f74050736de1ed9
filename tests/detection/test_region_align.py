"""Regions against torchvision's pooler, and against a ramp whose averages are known."""

import pytest
import torch
from detection_parts import make_boxes
from torchvision.ops import MultiScaleRoIAlign

from openvocab.detection.region_align import RegionAlign

STRIDES = (4, 8, 16, 32)
SIZE = (256, 320)


def make_maps(size=SIZE, batch=2, channels=3, strides=STRIDES, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    grids = [(size[0] // stride, size[1] // stride) for stride in strides]
    return [torch.randn(batch, channels, *grid, generator=generator).to(dtype) for grid in grids]


def ramp_maps(size=SIZE, strides=STRIDES):
    """Maps (1, 2, h, w) whose pixels say where their centers lie, x and y."""
    maps = []
    for stride in strides:
        y, x = torch.meshgrid(*(stride * (torch.arange(side // stride) + 0.5) for side in size), indexing="ij")
        maps.append(torch.stack([x, y])[None])
    return maps


def test_without_alignment_and_at_224_it_is_torchvisions_pooler():
    boxes = [make_boxes(40, SIZE, 0, (4, 250)), make_boxes(30, SIZE, 1, (4, 250))]
    boxes[0][:3] = torch.tensor(
        [[0.0, 0, 112, 112], [8, 8, 232, 232], [0, 0, 460, 450]]
    )  # between levels, and too large
    pooler = MultiScaleRoIAlign([str(i) for i in range(4)], 7, 2)
    maps = make_maps()
    expected = pooler({str(i): level for i, level in enumerate(maps)}, boxes, [SIZE, SIZE])
    ours = RegionAlign(STRIDES, 7, aligned=False)(maps, boxes)
    assert len(RegionAlign(STRIDES, 7).levels_of(torch.cat(boxes)).unique()) == 4
    torch.testing.assert_close(ours, expected)


def test_the_level_of_a_box_by_hand():
    align = RegionAlign(STRIDES, 7, canonical_size=224, canonical_stride=16)
    sides = [1.0, 111.0, 112.0, 223.0, 224.0, 447.0, 448.0, 5000.0]
    boxes = torch.tensor([[3.0, 5.0, 3 + side, 5 + side] for side in sides])
    assert align.levels_of(boxes).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    shapes = torch.tensor([[0.0, 0, 50, 1000], [0, 0, 448, 112], [7, 7, 7, 900], [9, 9, 4, 4]])  # sqrt: 223.6, 224, 0
    assert align.levels_of(shapes).tolist() == [1, 2, 0, 0]
    small = RegionAlign(STRIDES, 7, canonical_size=24, canonical_stride=8)
    assert small.levels_of(torch.tensor([[0.0, 0, 23, 23], [0, 0, 24, 24], [0, 0, 48, 48]])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("sampling_ratio", [0, 1, 2])
def test_cells_of_a_ramp_are_their_centers_at_every_level(sampling_ratio):
    inner = make_boxes(30, (160, 220), 2, (6, 150)) + 40  # a bilinear read is exact half a pixel inside the map
    cells = RegionAlign(STRIDES, 5, sampling_ratio=sampling_ratio)(ramp_maps(), [inner])
    steps = (torch.arange(5) + 0.5) / 5
    x = inner[:, 0, None] + steps * (inner[:, 2] - inner[:, 0])[:, None]  # (N, 5)
    y = inner[:, 1, None] + steps * (inner[:, 3] - inner[:, 1])[:, None]
    torch.testing.assert_close(cells[:, 0], x[:, None, :].expand(-1, 5, -1), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(cells[:, 1], y[:, :, None].expand(-1, -1, 5), atol=1e-3, rtol=1e-5)


def test_mirrored_maps_and_boxes_give_mirrored_regions():
    maps, boxes = make_maps(), [make_boxes(20, SIZE, 3, (4, 200)), make_boxes(20, SIZE, 4, (4, 200))]
    mirrored = [torch.stack([SIZE[1] - b[:, 2], b[:, 1], SIZE[1] - b[:, 0], b[:, 3]], dim=1) for b in boxes]
    align = RegionAlign(STRIDES, 7)
    expected = align(maps, boxes).flip(3)
    torch.testing.assert_close(align([level.flip(3) for level in maps], mirrored), expected, atol=1e-4, rtol=1e-4)


def test_order_and_image_of_the_boxes_are_kept():
    maps = [torch.zeros(3, 1, SIZE[0] // s, SIZE[1] // s) + torch.arange(3.0).view(3, 1, 1, 1) for s in STRIDES]
    boxes = [make_boxes(4, SIZE, 5), torch.zeros(0, 4), make_boxes(2, SIZE, 6, (60, 250))]
    assert RegionAlign(STRIDES, 2)(maps, boxes).mean(dim=(1, 2, 3)).tolist() == [0, 0, 0, 0, 2, 2]


def test_coarser_maps_are_not_read():
    maps, boxes = make_maps(), [make_boxes(9, SIZE, 7, (4, 250))] * 2
    align = RegionAlign(STRIDES[:2], 7)
    assert torch.equal(align(maps, boxes), align(maps[:2], boxes))


def test_no_boxes_at_all_keep_the_gradient_defined():
    maps = [level.requires_grad_() for level in make_maps()]
    read = RegionAlign(STRIDES, 7)(maps, [torch.zeros(0, 4)] * 2)
    assert read.shape == (0, 3, 7, 7)
    read.sum().backward()
    assert all(torch.equal(level.grad, torch.zeros_like(level)) for level in maps)


def test_gradient_reaches_the_pixels_under_the_boxes_only():
    maps = [level.requires_grad_() for level in make_maps()]
    RegionAlign(STRIDES, 7)(maps, [torch.tensor([[64.0, 64.0, 96.0, 96.0]]), torch.zeros(0, 4)]).sum().backward()
    touched = maps[0].grad.abs().sum(1) > 0  # a box of 32 px belongs to the finest level
    assert touched[0, 16:24, 16:24].all() and not touched[1].any()
    assert not touched[0, :15].any() and not touched[0, 25:].any()
    assert not any(level.grad.abs().any() for level in maps[1:])


@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision_maps_are_read_at_the_exact_places(autocast):
    """bfloat16 would round a position near 1000 px by up to 4 px."""
    boxes = torch.tensor([[1001.5, 12.0, 1017.5, 28.0], [1003.5, 12.0, 1019.5, 28.0]])
    step = torch.zeros(1, 1, 16, 320)
    step[..., 252:] = 1  # from x = 1008 on
    align = RegionAlign((4,), 4)
    exact = align([step], [boxes])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        read = align([step.bfloat16()], [boxes])
    assert read.dtype == torch.bfloat16
    torch.testing.assert_close(read.float(), exact, atol=0.01, rtol=0)


@pytest.mark.parametrize("strides", [(4, 16), (8, 8), (16, 8)])
def test_strides_that_do_not_double_are_named(strides):
    with pytest.raises(ValueError, match="expected each twice the previous one"):
        RegionAlign(strides, 7)
