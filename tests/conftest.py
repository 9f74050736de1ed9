"""Fixtures that many test files share."""

import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: a forked copy of a process with OpenMP threads hangs

# isort: split
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import mmengine  # noqa: F401  before the workers start: at its first import on a machine, yapf writes a file that they read
import pytest
import torch

from openvocab.process.matmul_precision import kept_matmul_precision

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started by a script with "&": what tests start would ignore it
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # by nohup: it goes on, and what tests start hears
    signal.signal(signal.SIGHUP, lambda number, frame: None)

REPOSITORY = Path(__file__).resolve().parents[1]
pytest_plugins = ["local_hub"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images, labels and text rows; the test skips itself where it is absent."""
    folder = Path(os.environ.get("OPENVOCAB_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set OPENVOCAB_DATA")
    return folder


@pytest.fixture(autouse=True)
def matmul_precision() -> Iterator[None]:
    """Put back what a run of the test has set for the whole process."""
    with kept_matmul_precision():
        yield


NEEDS_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NEEDS_GPU])])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the CPU, and on the GPU where there is one, with convolutions in true float32 there."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield request.param


@pytest.fixture(autouse=True, scope="module")
def quiet_log() -> Iterator[None]:
    """Take back what a tool that ran in this process has set up for its log."""
    source = logging.getLogger("openvocab")
    handlers, level = list(source.handlers), source.level
    yield
    source.handlers[:] = handlers
    source.setLevel(level)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What openvocab logs from INFO up, in the order of the calls."""
    records: list[logging.LogRecord] = []
    with _following("openvocab", records.append):
        yield records


@pytest.fixture
def lines_of() -> Iterator[Callable[[str], list[tuple[int, str]]]]:
    """A function of a module's name, returning a list that fills with the level and line of what the module logs."""
    with ExitStack() as open_logs:

        def follow(name: str) -> list[tuple[int, str]]:
            lines: list[tuple[int, str]] = []
            log = _following(name, lambda record: lines.append((record.levelno, record.getMessage())))
            open_logs.enter_context(log)
            return lines

        yield follow


@contextmanager
def _following(name: str, take: Callable[[logging.LogRecord], None]) -> Iterator[None]:
    """Hand `take` what the logger of that name says from INFO up."""
    source, handler = logging.getLogger(name), logging.Handler()
    handler.emit = take
    before = source.level
    source.addHandler(handler)
    source.setLevel(logging.INFO)
    try:
        yield
    finally:
        source.removeHandler(handler)
        source.setLevel(before)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))
