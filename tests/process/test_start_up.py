"""A tool collects garbage rarely while it starts, and as usual while it works and afterwards."""

import gc

import pytest
from tool_runs import run_command

from openvocab.commands import publish
from openvocab.engine.own_process import own_process
from openvocab.process.start_up import OBJECTS_BETWEEN_COLLECTIONS, collect_as_usual


@pytest.mark.parametrize("fails", [False, True])
def test_collections_are_rare_only_until_the_work_begins(monkeypatch, fails):
    usual, seen = gc.get_threshold(), []
    assert usual[0] < OBJECTS_BETWEEN_COLLECTIONS

    def run(arguments):
        seen.append(gc.get_threshold())
        if fails:
            raise ValueError("a mistake")
        monkeypatch.setattr("openvocab.engine.own_process.keep_freed_memory", lambda: None)
        monkeypatch.setattr("openvocab.engine.own_process._use_matmul_of_rank_0", lambda precision: None)
        own_process(type("Config", (dict,), {"filename": None})())
        seen.append(gc.get_threshold())
        return 0

    monkeypatch.setattr(publish, "run", run)
    assert run_command("publish", "x.pth", "--out", "published") == (2 if fails else 0)
    assert seen and seen == [(OBJECTS_BETWEEN_COLLECTIONS, *usual[1:]), usual][: len(seen)]
    assert gc.get_threshold() == usual


def test_a_program_that_uses_the_library_keeps_its_own_setting():
    usual = gc.get_threshold()
    gc.set_threshold(123, 4, 5)
    try:
        collect_as_usual()
        assert gc.get_threshold() == (123, 4, 5)
    finally:
        gc.set_threshold(*usual)
