"""Masks of regions: targets and loss as in torchvision, and cells whose covered fraction is known."""

import pytest
import torch
from detection_parts import box_masks, enliven, make_boxes
from torchvision.models.detection.roi_heads import maskrcnn_loss, project_masks_on_boxes

from openvocab.detection.mask_branch import MaskBranch, masks_in_boxes
from openvocab.detection.region_align import RegionAlign

SIZE, STRIDES = (64, 96), (4, 8)


def make_branch(aligned: bool = True, size: int = 14, **arguments) -> MaskBranch:
    torch.manual_seed(0)
    return enliven(MaskBranch(RegionAlign(STRIDES, size, aligned=aligned), 6, dim=8, convs=2, **arguments))


def make_maps() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 6, SIZE[0] // stride, SIZE[1] // stride, generator=generator) for stride in STRIDES]


def make_targets() -> tuple[list, list, list]:
    """Boxes (N_i, 4) near objects, the object in each, and masks of the objects."""
    objects = [make_boxes(3, SIZE, 0), make_boxes(2, SIZE, 1)]
    index = [torch.tensor([2, 0, 0, 2]), torch.tensor([1])]
    boxes = [found[rows] + torch.tensor([-2.0, 1.0, 3.0, -1.0]) for found, rows in zip(objects, index)]
    return [found.clamp(min=0) for found in boxes], index, [box_masks(found, SIZE) for found in objects]


def test_targets_equal_torchvisions_where_pixels_are_not_aligned():
    boxes, index, masks = make_targets()
    expected = project_masks_on_boxes(masks[0].float(), boxes[0], index[0], 28)
    torch.testing.assert_close(masks_in_boxes(masks[0], boxes[0], index[0], 28, aligned=False), expected)


def test_aligned_targets_are_the_covered_fraction_of_each_cell():
    mask = torch.zeros(1, 20, 20, dtype=torch.bool)
    mask[:, 4:12, 4:12] = True
    zero = torch.tensor([0])
    for box, rows, columns in (
        ([4, 4, 12, 12], [1, 1, 1, 1], [1, 1, 1, 1]),
        ([4, 4, 20, 12], [1, 1, 1, 1], [1, 1, 0, 0]),
        ([0, 4, 8, 12], [1, 1, 1, 1], [0, 0, 1, 1]),
        ([2, 3, 10, 11], [0.5, 1, 1, 1], [0, 1, 1, 1]),  # an edge that cuts a cell in half
    ):
        targets = masks_in_boxes(mask, torch.tensor([box], dtype=torch.float32), zero, 4)[0]
        torch.testing.assert_close(targets, torch.tensor(rows).float()[:, None] * torch.tensor(columns).float())


def test_mirrored_masks_and_boxes_give_mirrored_targets():
    boxes, index, masks = make_targets()
    mirrored = boxes[0][:, [2, 1, 0, 3]] * torch.tensor([-1, 1, -1, 1]) + torch.tensor([SIZE[1], 0, SIZE[1], 0])
    targets = masks_in_boxes(masks[0], boxes[0], index[0], 28)
    torch.testing.assert_close(masks_in_boxes(masks[0].flip(2), mirrored, index[0], 28), targets.flip(2))


def test_loss_equals_torchvisions_with_the_same_mask_for_every_class():
    branch, maps, (boxes, index, masks) = make_branch(aligned=False), make_maps(), make_targets()
    with torch.no_grad():
        logits = branch(maps, boxes)
        loss = branch.loss(maps, boxes, index, masks)
    assert logits.shape == (5, 28, 28)
    labels = [torch.randint(1, 5, (len(found),)) for found in masks]
    stacked = logits[:, None].expand(-1, 5, -1, -1)
    expected = maskrcnn_loss(stacked, boxes, [found.float() for found in masks], labels, index)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("norm", [None, "batch", "group", "layer"])
def test_no_boxes_give_no_loss_and_a_defined_gradient(norm):
    branch, maps = make_branch(norm=norm), [level.requires_grad_() for level in make_maps()]
    none, masks = [torch.zeros(0, 4)] * 2, [torch.zeros(0, *SIZE, dtype=torch.bool)] * 2
    assert branch(maps, none).shape == (0, 28, 28)
    loss = branch.loss(maps, none, [torch.zeros(0, dtype=torch.int64)] * 2, masks)
    loss.backward()
    assert loss == 0
    assert all(torch.equal(part.grad, torch.zeros_like(part)) for part in (*branch.parameters(), *maps))
    assert all(buffer.isfinite().all() for buffer in branch.buffers())


def test_another_image_without_objects_changes_nothing():
    branch, maps, (boxes, index, masks) = make_branch(), make_maps(), make_targets()
    boxes[1], index[1], masks[1] = boxes[1][:0], index[1][:0], masks[1][:0]
    alone = branch.loss([level[:1] for level in maps], boxes[:1], index[:1], masks[:1])
    torch.testing.assert_close(branch.loss(maps, boxes, index, masks), alone)


def test_logits_under_autocast_are_float32():
    branch, maps, (boxes, index, masks) = make_branch(), make_maps(), make_targets()
    with torch.autocast("cpu", torch.bfloat16):
        logits, loss = branch(maps, boxes), branch.loss(maps, boxes, index, masks)
    assert logits.dtype == loss.dtype == torch.float32
    torch.testing.assert_close(loss, branch.loss(maps, boxes, index, masks), rtol=0.05, atol=0)
