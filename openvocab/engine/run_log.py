"""The log of a run: what openvocab and mmengine say goes to stderr and into the work dir, by `logging`'s levels."""

import logging
import sys

from mmengine.logging import MMLogger

SOURCES = ("openvocab", "mmengine")
"""Loggers whose levels rule what is written; a run sets those that nobody has set."""


class _RunLog(logging.Handler):
    """Pass records on to the logger of a run, by whose handlers only rank 0 writes anything below an error."""

    def __init__(self, run: MMLogger, level: int) -> None:
        super().__init__()
        self.run, self.level_of_source = run, level

    def emit(self, record: logging.LogRecord) -> None:
        """Write into the file, and on the console unless the program has handlers of its own that do so."""
        for handler in self.run.handlers:
            is_console = not isinstance(handler, logging.FileHandler)
            if record.levelno >= handler.level and not (is_console and logging.root.handlers):
                handler.handle(record)


def open_run_log(run: MMLogger) -> None:
    """Let a run's logger write on stderr, and what openvocab logs as well; it takes the place of an earlier run's.

    mmengine's logger is none of those that `logging.getLogger` returns. It obeys the level of the one of its name.
    """
    level = min(handler.level for handler in run.handlers)
    for handler in run.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
        handler.addFilter(lambda record: logging.getLogger(record.name).isEnabledFor(record.levelno))
    for name in SOURCES:
        source = logging.getLogger(name)
        _close_run_log(source)
        if source.level == logging.NOTSET:
            source.setLevel(level)
            source.addHandler(_RunLog(run, level))
        else:
            source.addHandler(_RunLog(run, logging.NOTSET))


def _close_run_log(source: logging.Logger) -> None:
    for handler in [handler for handler in source.handlers if isinstance(handler, _RunLog)]:
        source.removeHandler(handler)
        if source.level == handler.level_of_source:
            source.setLevel(logging.NOTSET)
