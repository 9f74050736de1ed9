"""The log of a run: on stderr and in its file, ruled by the levels of `logging`, each line once."""

import logging
from collections.abc import Callable
from functools import cache

import pytest
from fresh_process import REPOSITORY, run_fresh
from tiny_run import tiny_config

from openvocab.engine.run_log import open_run_log
from openvocab.engine.runner import build_runner

RUN = """
import logging, sys
sys.path.append(sys.argv[2])
{setting}
from mmengine.config import Config
from mmengine.logging import print_log
from tiny_run import tiny_config
from openvocab.engine.runner import build_runner

config = Config({{**tiny_config(max_iters=6, verbose=True), "log_level": "INFO"}})
for number in range({runs}):
    runner = build_runner(config, work_dir=sys.argv[1] + f"/{{number}}")
runner.train()
logging.getLogger("openvocab.part").info("said by a part")
logging.getLogger("openvocab.part").debug("said at debug level")
print_log("said by mmengine", logger="current")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Callable[..., tuple[str, str]]:
    """A function that trains in a host with a setting, once, and returns its stderr and its log file."""

    @cache
    def train(setting: str = "", runs: int = 1) -> tuple[str, str]:
        folder = tmp_path_factory.mktemp("log")
        result = run_fresh(RUN.format(setting=setting, runs=runs), folder, REPOSITORY / "tests")
        (log,) = (folder / str(runs - 1)).glob("*/*.log")
        assert result.stdout == ""
        return result.stderr, log.read_text()

    return train


OWN_HANDLER = "logging.basicConfig(format='HOST %(message)s')"


@pytest.mark.parametrize("runs", [1, 2])
def test_a_line_is_written_once_on_stderr_and_once_in_the_file(run, runs):
    for text in run(runs=runs):
        assert [text.count(f"said by {who}") for who in ("a part", "mmengine")] == [1, 1]
        assert "openvocab.part - " in text and "Saving" not in text
        assert "training: 6 iterations" in text  # the runner, while it is built


DETAILS = ("said at debug level", "optimizer: ", "Hooks will be executed", "Distributed training is not used")


def test_details_are_in_the_file_alone(run):
    shown, written = run(runs=1)
    assert not any(detail in shown for detail in DETAILS)
    assert all(detail in written for detail in DETAILS)


def test_a_host_with_handlers_of_its_own_gets_no_details(run):
    for text in run(OWN_HANDLER):
        assert not any(detail in text for detail in DETAILS[:2])


def test_a_user_reads_at_most_twelve_lines_before_the_first_step(run):
    shown, _ = run(runs=1)
    lines = shown.partition("Iter(")[0].splitlines()[:-1]
    assert 2 < len(lines) <= 12 and "openvocab" in lines[0] and "results: " in lines[-1]


@pytest.mark.parametrize(("silenced", "left"), [("openvocab", "mmengine"), ("mmengine", "a part")])
def test_a_level_set_by_the_host_rules(run, silenced, left):
    setting = f"logging.getLogger({silenced!r}).setLevel(logging.ERROR)"
    for text in run(setting):
        others = {"a part", "mmengine"} - {left}
        assert f"said by {left}" in text and not any(f"said by {other}" in text for other in others)


def test_a_host_that_shows_records_itself_sees_each_once(run):
    shown, written = run(OWN_HANDLER)
    assert shown.count("said by a part") == 1 and "HOST said by a part" in shown
    assert written.count("said by a part") == 1


def test_the_level_of_a_later_run_replaces_that_of_an_earlier_one(tmp_path, monkeypatch):
    source = logging.getLogger("openvocab")
    monkeypatch.setattr(source, "handlers", [])
    monkeypatch.setattr(source, "level", logging.NOTSET)
    for level in ("ERROR", "INFO"):
        config = tiny_config()
        config.log_level = level
        build_runner(config, work_dir=tmp_path / level)
        assert logging.getLevelName(source.level) == level and len(source.handlers) == 1
    source.setLevel(logging.CRITICAL)
    open_run_log(build_runner(tiny_config(), work_dir=tmp_path / "last").logger)
    assert source.level == logging.CRITICAL
