"""Encoded masks against torchvision's pasting and pycocotools' encoding of the whole map."""

import numpy as np
import pytest
import torch
from pycocotools import mask as rle
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from openvocab.ops.mask_encoding import encode_masks

SIZE = (60, 80)
FRAME = torch.tensor([80.0, 60.0])


def reference(probabilities: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float) -> list[dict]:
    maps = paste_masks_in_image(probabilities[:, None], boxes, size)[:, 0] > threshold
    return [rle.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in maps]


def make_boxes(kind: str, count: int) -> Tensor:
    """Return boxes (M, 4) of which each shows at least a corner, since torchvision fails on others."""
    random = torch.Generator().manual_seed(0)
    anchor, sides = torch.rand(count, 2, generator=random), torch.rand(count, 2, generator=random)
    if kind == "whole image":
        return torch.cat([torch.zeros(2), FRAME]) + 2 * torch.randn(count, 4, generator=random)
    if kind == "tall":
        return torch.stack([anchor[:, 0] * 70, -5 * sides[:, 0], anchor[:, 0] * 70 + 9, 60 + 5 * sides[:, 1]], dim=1)
    if kind == "tiny":
        corner = anchor * FRAME
        return torch.cat([corner, corner + sides], dim=1)
    if kind == "partly outside":
        center, sides = torch.where(anchor > 0.5, FRAME - 2, 2.0), 20 + 100 * sides
        return torch.cat([center - sides / 2, center + sides / 2], dim=1)
    corners = torch.cat([anchor, sides]).view(2, count, 2) * FRAME
    return torch.cat([corners.amin(0), corners.amax(0)], dim=1)


def make_masks(count: int, cells: int = 28) -> Tensor:
    """Return probabilities (M, m, m): noise for every second one, else a soft blob."""
    random = torch.Generator().manual_seed(1)
    line = torch.linspace(-1, 1, cells)
    blob = (8 * (0.9 - line.square()[:, None] - line.square())).sigmoid()
    masks = torch.rand(count, cells, cells, generator=random)
    masks[::2] = blob
    return masks


@pytest.mark.parametrize("threshold", [0.5, 0.2])
@pytest.mark.parametrize("cells", [28, 5, 1])
@pytest.mark.parametrize("kind", ["inside", "whole image", "tall", "tiny", "partly outside"])
def test_equals_pasting_and_encoding_the_whole_map(kind, cells, threshold):
    boxes, masks = make_boxes(kind, 60), make_masks(60, cells)
    assert encode_masks(masks, boxes, SIZE, threshold) == reference(masks, boxes, SIZE, threshold)


@pytest.mark.parametrize("kind", ["whole image", "tall"])
def test_runs_join_from_column_to_column(kind):
    boxes, masks = make_boxes(kind, 20), torch.ones(20, 28, 28)
    assert encode_masks(masks, boxes, SIZE) == reference(masks, boxes, SIZE, 0.5)


def test_a_full_frame_is_one_run():
    (mask,) = encode_masks(torch.ones(1, 28, 28), torch.tensor([[-9.0, -9.0, 90.0, 70.0]]), SIZE)
    assert mask == rle.frPyObjects({"counts": [0, 60 * 80], "size": list(SIZE)}, *SIZE)
    assert rle.area(mask) == 60 * 80


def test_a_box_out_of_sight_gives_an_empty_mask():
    outside = [[-50, 5, -20, 20], [100, 5, 120, 20], [5, -50, 20, -20], [5, 70, 20, 90], [20, 20, 10, 10]]
    for mask in encode_masks(torch.ones(5, 28, 28), torch.tensor(outside, dtype=torch.float32), SIZE):
        assert mask == rle.encode(np.zeros(SIZE, dtype=np.uint8, order="F"))


def test_a_huge_frame_needs_no_map():
    (mask,) = encode_masks(torch.ones(1, 28, 28), torch.tensor([[4e4, 3e4, 4e4 + 27, 3e4 + 13]]), (50_000, 60_000))
    x, y, width, height = rle.toBbox(mask)
    assert mask["size"] == [50_000, 60_000]
    assert [x, y, width, height] == pytest.approx([4e4, 3e4, 27, 13], abs=2, rel=0)
    assert rle.area(mask) == width * height


def test_half_precision_and_gradients_are_accepted():
    boxes, masks = make_boxes("inside", 4), make_masks(4).bfloat16()
    assert encode_masks(masks.requires_grad_(), boxes, SIZE) == encode_masks(masks.detach().float(), boxes, SIZE)


def test_no_masks_give_an_empty_list():
    assert encode_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE) == []


@pytest.mark.parametrize(
    ("masks", "boxes", "message"),
    [
        (torch.zeros(2, 1, 28, 28), torch.zeros(2, 4), r"probabilities: expected \(M, m, m\), got \(2, 1, 28, 28\)"),
        (torch.zeros(2, 28, 27), torch.zeros(2, 4), "probabilities: expected"),
        (torch.zeros(2, 28, 28), torch.zeros(3, 4), r"boxes: expected \(2, 4\), got \(3, 4\)"),
        (torch.zeros(1, 28, 28), torch.full((1, 4), float("nan")), "boxes: expected finite"),
    ],
)
def test_bad_arguments_are_named(masks, boxes, message):
    with pytest.raises(ValueError, match=message):
        encode_masks(masks, boxes, SIZE)
