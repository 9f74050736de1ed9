"""Offsets between boxes: by hand, and as torchvision's coder has them."""

import math

import pytest
import torch
from detection_parts import make_boxes
from torchvision.models.detection._utils import BoxCoder

from openvocab.detection.box_coding import MAX_LOG_SCALE, decode_boxes, edge_corners, encode_boxes, inclusive_corners

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def test_offsets_of_one_box_by_hand():
    references = torch.tensor([[0.0, 0.0, 10.0, 20.0]])  # center (5, 10), size 10 x 20
    boxes = torch.tensor([[2.0, 5.0, 22.0, 35.0]])  # center (12, 20), size 20 x 30
    expected = torch.tensor([[10 * 7 / 10, 10 * 10 / 20, 5 * math.log(2), 5 * math.log(1.5)]])
    torch.testing.assert_close(encode_boxes(boxes, references, WEIGHTS), expected)


@pytest.mark.parametrize("weights", [WEIGHTS, (1.0, 2.0, 3.0, 4.0)])
def test_both_directions_equal_torchvisions_coder(weights):
    coder = BoxCoder(weights)
    boxes, references = make_boxes(50, (200, 300), 0), make_boxes(50, (200, 300), 1)
    torch.testing.assert_close(encode_boxes(boxes, references, weights), coder.encode([boxes], [references])[0])
    offsets = 4 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    offsets[:5, 2:] = 100.0  # beyond what a box may grow
    torch.testing.assert_close(decode_boxes(offsets, references, weights), coder.decode(offsets, [references])[:, 0])


def test_decoding_undoes_encoding():
    boxes, references = make_boxes(50, (200, 300), 2), make_boxes(50, (200, 300), 3)
    offsets = encode_boxes(boxes, references, WEIGHTS)
    torch.testing.assert_close(decode_boxes(offsets, references, WEIGHTS), boxes, atol=1e-3, rtol=1e-5)


def test_a_box_grows_at_most_by_the_customary_bound():
    references = torch.tensor([[0.0, 0.0, 16.0, 16.0]])
    (box,) = decode_boxes(torch.tensor([[0.0, 0.0, 1e6, 1e6]]), references, WEIGHTS)
    torch.testing.assert_close(box[2:] - box[:2], torch.full((2,), 1000.0))
    assert math.exp(MAX_LOG_SCALE) == pytest.approx(62.5)


def test_no_boxes_and_low_precision_offsets():
    references = make_boxes(3, (100, 100))
    assert decode_boxes(torch.zeros(0, 4), references[:0], WEIGHTS).shape == (0, 4)
    assert encode_boxes(references[:0], references[:0], WEIGHTS).shape == (0, 4)
    moved = decode_boxes(torch.zeros(3, 4, dtype=torch.bfloat16), references, WEIGHTS)
    assert moved.dtype == torch.float32
    torch.testing.assert_close(moved, references)


def test_offsets_of_inclusive_corners_by_hand():
    references = torch.tensor([[0.0, 0.0, 9.0, 19.0]])  # pixels 0 to 9 and 0 to 19: center (4.5, 9.5), size 10 x 20
    boxes = torch.tensor([[2.0, 5.0, 21.0, 34.0]])  # center (11.5, 19.5), size 20 x 30
    expected = torch.tensor([[10 * 7 / 10, 10 * 10 / 20, 5 * math.log(2), 5 * math.log(1.5)]])
    offsets = encode_boxes(boxes, references, WEIGHTS, inclusive=True)
    torch.testing.assert_close(offsets, expected)
    torch.testing.assert_close(decode_boxes(offsets, references, WEIGHTS, inclusive=True), boxes)


def test_inclusive_corners_are_another_notation_of_the_same_offsets():
    boxes, references = make_boxes(50, (200, 300), 4), make_boxes(50, (200, 300), 5)
    offsets = encode_boxes(boxes, references, WEIGHTS)
    pixels = encode_boxes(inclusive_corners(boxes), inclusive_corners(references), WEIGHTS, inclusive=True)
    torch.testing.assert_close(pixels, offsets)
    decoded = decode_boxes(offsets, inclusive_corners(references), WEIGHTS, inclusive=True)
    torch.testing.assert_close(edge_corners(decoded), decode_boxes(offsets, references, WEIGHTS))


def test_inclusive_corners_are_those_of_official_glip():
    """COCO's (x, y, w, h) becomes (x, y, x + w - 1, y + h - 1), and w - 1 is at least 0."""
    x, y, width, height = 3.5, 4.25, 10.0, 0.5
    boxes = torch.tensor([[x, y, x + width, y + height]])
    assert inclusive_corners(boxes).tolist() == [[x, y, x + 9, y]]
    assert edge_corners(torch.tensor([[x, y, x + 9, y]])).tolist() == [[x, y, x + 10, y + 1]]
