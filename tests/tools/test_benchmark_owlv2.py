"""The OWLv2 row of tools/benchmark.py compares equal networks. No test asserts a time."""

import json
import sys

import pytest
from tool_runs import REPOSITORY

from openvocab.clip import open_clip_model

sys.path.insert(0, str(REPOSITORY / "tools"))  # as running the tool does
pytest.importorskip("transformers")

from benchmarks import owlv2, rows


def test_both_sides_have_the_same_logits_and_detect(tmp_path, monkeypatch):
    architecture = json.loads((open_clip_model.CONFIG_FOLDER / f"{owlv2.MODEL}.json").read_text())
    architecture["vision_cfg"]["image_size"] = 96
    (tmp_path / f"{owlv2.MODEL}.json").write_text(json.dumps(architecture))
    monkeypatch.setattr(open_clip_model, "CONFIG_FOLDER", tmp_path)
    monkeypatch.setattr(owlv2, "SIDE", 96)
    monkeypatch.setattr(owlv2, "MIN_SCORE", 0.01)
    sides = owlv2.prepare()
    theirs, ours = sides.peer(), sides.ours()
    assert sides.error(theirs, ours) < 1e-5
    assert len(theirs) == owlv2.NAMES_PER_CALL * 36 and len(ours.scores) == 300
    assert sides.peer_scale == 10


def test_the_row_is_in_the_table():
    assert "owlv2_20_names" in [row.name for row in rows.ROWS]
