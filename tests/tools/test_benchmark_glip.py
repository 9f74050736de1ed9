"""The GLIP rows of tools/benchmark.py compare equal networks. No test asserts a time."""

import sys

import pytest
from tool_runs import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))  # as running the tool does

from benchmarks import glip, rows


@pytest.mark.parametrize(("tokens", "chunks"), [(9, 1), (7, 3)])
def test_both_sides_have_the_same_outputs(monkeypatch, tokens, chunks):
    monkeypatch.setattr(glip, "SIZE", (96, 160))
    monkeypatch.setattr(glip, "BACKBONE", dict(dim=16, depths=(2, 2, 1, 1), heads=(1, 1, 2, 2)))
    tower = dict(num_blocks=2, text_heads=2, fusion_heads=2, fusion_head_dim=8)
    monkeypatch.setattr(glip, "NETWORK", glip.NETWORK | dict(tower=tower))
    monkeypatch.setattr(glip, "TEXT_DIM", 32)
    sides = glip.prepare(tokens, chunks)
    assert sides.error(sides.peer(), sides.ours()) < 1e-5
    assert sides.peer_scale == chunks


def test_the_rows_are_in_the_table():
    assert {"glip_80_names", "glip_1203_names"} <= {row.name for row in rows.ROWS}
