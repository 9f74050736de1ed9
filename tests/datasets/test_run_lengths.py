"""Compressed run lengths against pycocotools, which wrote them."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from openvocab.datasets.annotations.packed_masks import _pack_runs
from openvocab.datasets.annotations.run_lengths import pixels_of_runs


def encoded(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (30, 60), (480, 640), (1, 3000), (1200, 7)])
def test_the_runs_of_any_mask_cover_it(size, share):
    random = np.random.default_rng(0)
    masks = [random.random(size) < share, np.add.outer(np.arange(size[0]), np.arange(size[1])) % 97 < 50 * share]
    for mask in masks:
        assert pixels_of_runs(encoded(mask)) == mask.size


def test_long_runs_of_many_characters():
    mask = np.zeros((3000, 4000), bool)
    mask[:, 3000:] = True
    assert pixels_of_runs(encoded(mask)) == mask.size


@pytest.mark.parametrize("counts", [b"", b"\x20", b"\x7f0", b"Q", b"PPPPPPPPPPPPPPPPPPPP0"])
def test_malformed_counts_are_refused(counts):
    with pytest.raises(ValueError, match="malformed counts"):
        pixels_of_runs(counts)


def test_negative_runs_are_refused():
    with pytest.raises(ValueError, match="negative length"):
        pixels_of_runs(b"5O")  # 5, -1


def test_a_mask_of_another_size_is_refused():
    counts = encoded(np.ones((30, 60), bool)).decode("ascii")
    _pack_runs({"size": [30, 60], "counts": counts})
    with pytest.raises(ValueError, match="runs of 1800 pixels in all, for a mask of 40x60"):
        _pack_runs({"size": [40, 60], "counts": counts})
