"""A disk that is full for a while costs logs and saves of that while, one line each, and not the run."""

import json
import logging
import os
import sys
import threading

import pytest
from bounded_processes import run_bounded
from config_parts import REPOSITORY
from mmengine.visualization import BaseVisBackend, TensorboardVisBackend
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine import tolerant_logging
from openvocab.engine.runner import build_runner
from openvocab.engine.tolerant_logging import TolerantBackend, quiet_writer_threads

SCRIPT = REPOSITORY / "tests" / "tiny_run.py"


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Return status and output of two runs: the disk is full from step 3 to 9, and to the end."""
    folder = tmp_path_factory.mktemp("full")
    options = {"max_iters": 12, "tensorboard": True, "verbose": True}
    hooks = {"for a while": [3, 9], "to the end": [3, 99]}
    trainings = [
        {"work_dir": str(folder / name), "hooks": [{"type": "FullDisk", "first": first, "last": last}], **options}
        for name, (first, last) in hooks.items()
    ]
    output = run_bounded(
        [sys.executable, str(SCRIPT), json.dumps(trainings)], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=-2
    ).stdout
    *outputs, last = output.split("ENDED\n")
    results = zip(json.loads(last.removeprefix("STATUS")), outputs)
    return {name: (folder / name, *result) for name, result in zip(hooks, results)}


def test_a_disk_that_is_full_for_a_while_costs_no_more_than_that(ended):
    folder, status, output = ended["for a while"]
    assert status == 0 and "Traceback" not in output, output[-3000:]
    assert load_checkpoint(folder / "last.pth")["meta"]["iter"] == 12
    lines = output.splitlines()
    assert len([line for line in lines if "TensorboardVisBackend cannot write" in line]) == 1
    assert len([line for line in lines if "cannot write the log to" in line]) == 1
    assert len([line for line in lines if "Training continues without this checkpoint" in line]) >= 1
    (log,) = folder.glob("*/*.log")
    assert "[12/12]" in log.read_text()  # the log went on too


def test_a_last_save_that_fails_is_an_error_with_path_and_bytes(ended):
    folder, status, output = ended["to the end"]
    assert status == 1 and "Traceback" not in output
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: cannot write {folder / 'iter_12.pth'}: ")
    assert "needed about " in line and " bytes, free " in line
    assert not list(folder.glob("*.saving"))


class Broken(BaseVisBackend):
    """Fails as often as it is told to."""

    def __init__(self, failures):
        self.failures, self.written = failures, []

    def _init_env(self):
        pass

    @property
    def experiment(self):
        return self

    def add_scalars(self, scalar_dict, step=0, file_path=None):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route to the logger")
        self.written.append(step)


def test_a_logger_that_recovers_is_written_to_again(tmp_path, monkeypatch, lines_of):
    monkeypatch.setattr(tolerant_logging, "RETRY_AFTER", 0.0)
    broken, log = Broken(failures=3), lines_of("openvocab.engine.tolerant_logging")
    runner = build_runner(tiny_config(max_iters=8, verbose=True), work_dir=tmp_path)
    runner.visualizer._vis_backends = {"broken": TolerantBackend(broken)}
    runner.train()
    assert broken.written[0] == 4 and broken.written[-1] == 8
    assert [line for _, line in log if "Broken cannot write (no route to the logger)" in line] == [log[0][1]]


def test_a_config_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch, capfd):
    def fail(path, mode="w"):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvocab.engine.runner.replacing", fail)
    build_runner(tiny_config(max_iters=4), work_dir=tmp_path).train()
    assert "the config is not written to" in "".join(capfd.readouterr())


def test_scores_of_a_test_outlive_a_log_that_cannot_be_written(tmp_path, monkeypatch, capfd):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmengine.hooks.logger_hook.dump", fail)
    runner = build_runner(tiny_config(), work_dir=tmp_path, training=False)
    assert "mIoU" in runner.test()
    assert "the log of after_test_epoch is not written" in "".join(capfd.readouterr())


def test_other_threads_and_handlers_keep_their_reports():
    before = threading.excepthook
    with quiet_writer_threads():
        assert threading.excepthook is not before
    assert threading.excepthook is before
    assert logging.Handler.handleError.__module__ == "logging"


def test_a_backend_without_its_package_names_the_extra(monkeypatch, tmp_path):
    for module in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, module, None)
    backend = TolerantBackend(TensorboardVisBackend(save_dir=str(tmp_path)))
    with pytest.raises(
        ImportError, match=r"^visualizer: TensorboardVisBackend needs .* pip install 'openvocab\[log\]'$"
    ):
        backend.add_scalar("loss", 1.0)
