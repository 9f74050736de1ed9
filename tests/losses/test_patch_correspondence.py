"""Patches that cover the same place, against a picture whose pixels say where they are."""

import pytest
import torch

from openvocab.losses import matching_patches


def matches(first, second, grid=(4, 4)):
    boxes = [torch.tensor([box], dtype=torch.float32) for box in (first, second)]
    image, one, two = matching_patches(*boxes, grid)
    assert image.eq(0).all()
    return list(zip(one.tolist(), two.tolist()))


def center(box, grid, patch):
    """Where the middle of a patch lies in the source, (x, y)."""
    left, top, right, bottom = box
    row, column = divmod(patch, grid[1])
    return (left + (column + 0.5) / grid[1] * (right - left), top + (row + 0.5) / grid[0] * (bottom - top))


def contains(box, grid, patch, point):
    left, top, right, bottom = box
    row, column = divmod(patch, grid[1])
    xs = sorted(left + side / grid[1] * (right - left) for side in (column, column + 1))
    ys = sorted(top + side / grid[0] * (bottom - top) for side in (row, row + 1))
    return xs[0] <= point[0] <= xs[1] and ys[0] <= point[1] <= ys[1]


def test_equal_crops_pair_every_patch_with_itself():
    assert matches((3, 5, 40, 50), (3, 5, 40, 50)) == [(i, i) for i in range(16)]


def test_a_mirrored_crop_pairs_columns_from_the_other_end():
    assert matches((0, 0, 64, 64), (64, 0, 0, 64))[:4] == [(0, 3), (1, 2), (2, 1), (3, 0)]


def test_a_shift_by_one_patch_pairs_what_overlaps():
    pairs = matches((0, 0, 64, 64), (16, 0, 80, 64))
    assert pairs == [(4 * row + column, 4 * row + column - 1) for row in range(4) for column in (1, 2, 3)]


def test_crops_apart_pair_nothing():
    assert matches((0, 0, 10, 10), (20, 20, 30, 30)) == []


def test_a_magnified_part_pairs_at_most_one_small_patch_with_a_large_one():
    pairs = matches((0, 0, 64, 64), (0, 0, 32, 32))
    assert len(pairs) == len({first for first, _ in pairs}) == len({second for _, second in pairs}) == 4


@pytest.mark.parametrize("seed", range(5))
def test_every_pair_of_random_crops_covers_the_centers_of_both(seed: int):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(2, 2, generator=generator) * 20
    sizes = 25 + torch.rand(2, 2, generator=generator) * 15
    first, second = torch.cat([corners, corners + sizes], dim=1).tolist()
    second = [second[2], second[1], second[0], second[3]]  # mirrored
    grid = (5, 7)
    pairs = set(matches(first, second, grid))
    brute_force = {
        (a, b)
        for a in range(35)
        for b in range(35)
        if contains(second, grid, b, center(first, grid, a)) and contains(first, grid, a, center(second, grid, b))
    }
    assert pairs == brute_force


def test_images_of_a_batch_keep_their_number():
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8]])
    others = torch.tensor([[20.0, 20, 28, 28], [0, 0, 8, 8]])
    image, first, second = matching_patches(boxes, others, (2, 2))
    assert image.tolist() == [1] * 4 and torch.equal(first, second)


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"\(B, 4\)"):
        matching_patches(torch.ones(2, 4), torch.ones(3, 4), (2, 2))
