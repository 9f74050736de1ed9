"""The GroupViT rows of tools/benchmark.py compare equal networks. No test asserts a time."""

import sys

import numpy as np
from tool_runs import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))  # as running the tool does

from benchmarks import groupvit, rows


def test_both_sides_embed_alike():
    sides = groupvit.prepare_image_side()
    assert sides.error(sides.peer(), sides.ours()) < 1e-4


def test_both_sides_label_every_pixel():
    sides = groupvit.prepare_labels(224)
    expected, got = sides.peer(), sides.ours()
    assert expected.shape == (1, 224, 224) and got.shape == (224, 224)
    assert np.unique(got).max() < 21
    assert sides.error(expected, got) < 1e-4


def test_rows_are_in_the_table():
    names = [row.name for row in rows.ROWS]
    assert [name for name in names if name.startswith("groupvit")] == [
        "groupvit_224", "groupvit_448", "groupvit_image_side"
    ]  # fmt: skip
