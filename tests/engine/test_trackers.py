"""`--tracker` adds the backend of an experiment tracker, once, and says what to install."""

import pytest
from mmengine.config import Config
from tiny_run import tiny_config

from openvocab.config.config import read_config
from openvocab.engine import trackers
from openvocab.engine.runner import build_runner
from openvocab.engine.trackers import TRACKERS, add_tracker


def backends(config):
    return [backend["type"] for backend in config.visualizer["vis_backends"]]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_is_added_next_to_the_backends_of_the_config(monkeypatch, name):
    monkeypatch.setattr(trackers, "find_spec", lambda module: module)
    config = read_config("lseg_shapes")
    expected = TRACKERS[name][1]["type"]
    add_tracker(config, None)
    assert len(backends(config)) == 1
    for _ in range(2):
        add_tracker(config, name)
        assert [getattr(kind, "__name__", kind) for kind in backends(config)] == ["LocalVisBackend", expected]
    assert expected in config.pretty_text  # as it is written into the work dir


def test_a_tracker_works_without_a_visualizer_in_the_config(tmp_path):
    config = tiny_config(max_iters=4, verbose=True)
    add_tracker(config, "tensorboard")
    build_runner(config, work_dir=tmp_path).train()
    assert list(tmp_path.rglob("events.out.tfevents*"))


def test_a_tracker_that_is_not_installed_is_one_line_with_the_remedy(monkeypatch):
    monkeypatch.setattr(trackers, "find_spec", lambda module: None)
    with pytest.raises(ImportError, match="^--tracker mlflow needs a package: pip install mlflow$"):
        add_tracker(Config(), "mlflow")


def test_an_unknown_tracker_is_refused():
    with pytest.raises(ValueError, match="tracker"):
        add_tracker(Config(), "comet")
