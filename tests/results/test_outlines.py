"""Outlines enclose exactly the pixels of a mask."""

import numpy as np
import pytest
from pycocotools import mask as rle

from openvocab.results.outlines import joined, polygons_of


def filled(ring, size):
    """Return the pixels that pycocotools finds inside a ring."""
    return rle.decode(rle.frPyObjects([ring.ravel().astype(float).tolist()], *size))[..., 0].astype(int)


def area(ring):
    x, y = ring.T.astype(float)
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


@pytest.mark.parametrize("seed", range(40))
def test_filled_outlines_are_the_mask(seed):
    random = np.random.default_rng(seed)
    size = tuple(random.integers(1, 14, 2))
    mask = random.random(size) < random.random()
    total = np.zeros(size, int)
    for polygon in polygons_of(mask):
        outer, *holes = polygon
        for ring in polygon:  # valid for geometry programs: no ring touches itself
            assert len(np.unique(ring, axis=0)) == len(ring)
        region = filled(outer, size) - sum(filled(hole, size) for hole in holes)
        assert region.min() >= 0 and region.max() == 1
        assert np.array_equal(filled(joined(polygon), size), region)
        assert area(joined(polygon)) == region.sum()  # clockwise on the screen
        total += region
    assert np.array_equal(total, mask)


def test_a_rectangle_has_four_corners_on_the_edges_of_its_pixels():
    mask = np.zeros((6, 8), bool)
    mask[2:4, 1:7] = True
    ((ring,),) = polygons_of(mask)
    assert sorted(map(tuple, ring.tolist())) == [(1, 2), (1, 4), (7, 2), (7, 4)]


def test_pixels_that_touch_at_a_corner_are_two_regions_and_a_hole_belongs_to_its_region():
    assert len(polygons_of(np.eye(2))) == 2
    ring = np.ones((5, 5))
    ring[2, 2] = 0
    (polygon,) = polygons_of(ring)
    assert len(polygon) == 2 and area(polygon[1]) == -1
    assert polygons_of(np.zeros((3, 3))) == []


def test_the_largest_region_comes_first():
    mask = np.zeros((4, 9))
    mask[0, 0], mask[:3, 3:6], mask[0:2, 7:9] = 1, 1, 1
    assert [area(ring) for (ring,) in polygons_of(mask)] == [9, 4, 1]
