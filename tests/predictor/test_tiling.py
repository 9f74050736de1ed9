"""Tiles of a large image are joined to one result."""

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from openvocab.logit_map import TensorLogits
from openvocab.predictor.tiling import OVERLAP, _parts, predict_tiles
from openvocab.results import ClassificationResult, DetectionResult, SemanticResult
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = Vocabulary.from_names(["dark", "bright"])


def by_brightness(tile):
    """A segmenter that looks at single pixels, so that tiles change nothing."""
    bright = torch.from_numpy(tile[..., 0].astype(np.float32) / 255)
    return SemanticResult(
        (bright > 0.5).numpy().astype(np.uint8), NAMES, "a", tile, TensorLogits(torch.stack([1 - bright, bright]))
    )


def squares(tile):
    """A detector that finds the connected bright parts of a tile, which may be cut by its edges."""
    import cv2

    count, labels, statistics, _ = cv2.connectedComponentsWithStats((tile[..., 0] > 128).astype(np.uint8))
    boxes = [[x, y, x + w, y + h] for x, y, w, h, _ in statistics[1:].tolist()]
    masks = [rle.encode(np.asfortranarray(labels == index, dtype=np.uint8)) for index in range(1, count)]
    scores = torch.tensor([area / 1000 for *_, area in statistics[1:].tolist()])
    order = scores.argsort(descending=True)
    return DetectionResult(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)[order], scores[order],
        torch.ones(count - 1, dtype=torch.int64), NAMES, [masks[index] for index in order], "a", tile, tile.shape[:2],
    )  # fmt: skip


@pytest.mark.parametrize("length, tile", [(10, 10), (10, 30), (100, 30), (101, 30), (7, 1), (64, 63)])
def test_parts_cover_an_axis_once_and_overlap(length, tile):
    parts = _parts(length, tile)
    assert [number for part in parts for number in range(part.first, part.last)] == list(range(length))
    for part in parts:
        assert 0 <= part.start <= part.first < part.last <= part.stop <= length
        assert part.stop - part.start == min(tile, length)
    for before, after in zip(parts, parts[1:]):
        assert before.stop - after.start >= int(OVERLAP * tile)


@pytest.mark.parametrize("size, tile", [((40, 90), 32), ((40, 90), (20, 90)), ((33, 17), 100), ((5, 5), 1)])
def test_label_maps_and_scores_are_those_of_the_whole_image(size, tile):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    whole, tiled = by_brightness(image), predict_tiles(image, tile, by_brightness, "photo.png")
    assert np.array_equal(tiled.label_map, whole.label_map) and tiled.source == "photo.png"
    assert np.array_equal(tiled.scores, whole.scores)
    assert np.array_equal(tiled.heat_map("bright"), whole.heat_map("bright"))


def test_objects_that_tiles_cut_become_whole_again():
    image = np.zeros((60, 200, 3), np.uint8)
    for left, top, side in ((5, 5, 10), (70, 20, 30), (150, 3, 20), (110, 40, 12)):
        image[top : top + side, left : left + side] = 255
    whole, tiled = squares(image), predict_tiles(image, 64, squares)
    assert sorted(tiled.boxes.tolist()) == sorted(whole.boxes.tolist())
    assert (tiled.scores.diff() <= 0).all() and tiled.size == (60, 200)
    masks = np.zeros((60, 200), int)
    for index in range(len(tiled)):
        masks += tiled.mask(index)
    assert np.array_equal(masks, image[..., 0] > 0)


def test_neighbors_within_one_tile_stay_apart():
    boxes = torch.tensor([[0.0, 0, 20, 20], [2.0, 2, 18, 18]])

    def two(tile):
        return DetectionResult(
            boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 1]), NAMES, None, "a", tile, tile.shape[:2]
        )

    assert predict_tiles(np.zeros((30, 30, 3), np.uint8), 30, two).boxes.tolist() == boxes.tolist()


def test_a_classifier_and_an_empty_tile_are_errors():
    image = np.zeros((30, 30, 3), np.uint8)

    def classify(tile):
        return ClassificationResult(torch.zeros(2), NAMES, "a", tile, tile.shape[:2])

    with pytest.raises(ValueError, match="leave tile out"):
        predict_tiles(image, 20, classify)
    for tile in (0, -3, 2.5, True, (20,), (20, 0), "20"):
        with pytest.raises(ValueError, match="tile: expected .*whole number"):
            predict_tiles(image, tile, by_brightness)
