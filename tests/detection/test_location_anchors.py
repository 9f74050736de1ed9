"""One anchor per location: the official ones, and by hand."""

import pytest
import torch
from glip_reference import ANCHOR_SIZES, MODELS, STRIDES, expected, grid_sizes, needs_reference

from openvocab.detection.location_anchors import location_anchors


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_the_anchors_are_the_official_ones(model):
    anchors = location_anchors(grid_sizes(model), STRIDES, ANCHOR_SIZES)
    assert torch.equal(anchors, expected(f"{model}_anchors"))


@pytest.mark.parametrize(("stride", "corner"), [(8, 28), (16, 56), (32, 112), (64, 224), (128, 448)])
def test_the_first_anchor_surrounds_the_first_cell(stride, corner):
    anchors = location_anchors([(1, 1)], [stride], [8 * stride])
    assert anchors.tolist() == [[-corner, -corner, corner + stride - 1, corner + stride - 1]]


def test_anchors_are_sorted_by_level_then_row_then_column():
    anchors = location_anchors([(2, 3), (1, 2)], [4, 8], [6, 10])
    rows = []
    for height, width, stride, size in ((2, 3, 4, 6), (1, 2, 8, 10)):
        for i in range(height):
            for j in range(width):
                pixels_x, pixels_y = (range(stride * index, stride * (index + 1)) for index in (j, i))
                x, y = sum(pixels_x) / stride, sum(pixels_y) / stride
                rows.append([x - (size - 1) / 2, y - (size - 1) / 2, x + (size - 1) / 2, y + (size - 1) / 2])
    assert anchors.tolist() == rows
    assert anchors.dtype == torch.float32


def test_levels_that_do_not_match_are_named():
    with pytest.raises(ValueError, match="one grid size, one stride and one anchor size per level, got 2, 1 and 1"):
        location_anchors([(2, 3), (1, 2)], [4], [6])
