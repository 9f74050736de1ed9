"""The log of a run: records of openvocab and mmengine go to stderr and into the work dir, by `logging` levels.

The log file of a run at level INFO also holds what is logged at DEBUG, such as how parts were set up.
"""

import logging
import sys

from mmengine.logging import MMLogger

SOURCES = ("openvocab", "mmengine")
"""Loggers whose levels decide what is written; a run sets the levels that nobody has set."""
CHATTER = ("Distributed training is not used", "Hooks will be executed", "Exp name: ")
"""Beginnings of mmengine's lines that are no news to a user: they count as DEBUG."""


class _RunLog(logging.Handler):
    """Pass records to the logger of a run, whose handlers write what is below an error on rank 0 only.

    Args:
        run_logger: mmengine's logger of the run.
        level: that the run has given to the source; NOTSET if it has given none.
    """

    def __init__(self, run_logger: MMLogger, level: int) -> None:
        super().__init__()
        self.run_logger, self.level_of_source = run_logger, level

    def emit(self, record: logging.LogRecord) -> None:
        """Write to the log file, and to the console unless the program has its own handlers for that."""
        for handler in self.run_logger.handlers:
            is_console = not isinstance(handler, logging.FileHandler)
            if record.levelno >= handler.level and not (is_console and logging.root.handlers):
                handler.handle(record)


def open_run_log(run_logger: MMLogger) -> None:
    """Let a run's logger write to stderr, openvocab's records included; it replaces the logger of an earlier run.

    `logging.getLogger` does not return mmengine's logger; this one follows the level of the logger of its name.
    """
    level = min(handler.level for handler in run_logger.handlers)
    # a program that shows records by handlers of its own would show those at DEBUG, too
    keeps_details = level == logging.INFO and not logging.root.handlers
    run_logger.addFilter(_as_debug_if_chatter)
    for handler in run_logger.handlers:
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stderr)
        elif keeps_details:
            handler.setLevel(logging.DEBUG)
        handler.addFilter(lambda record: logging.getLogger(record.name).isEnabledFor(record.levelno))
    for name in SOURCES:
        source = logging.getLogger(name)
        _close_run_log(source)
        if source.level == logging.NOTSET:
            level_of_source = logging.DEBUG if keeps_details else level
            source.setLevel(level_of_source)
            source.addHandler(_RunLog(run_logger, level_of_source))
        else:
            source.addHandler(_RunLog(run_logger, logging.NOTSET))


def _as_debug_if_chatter(record: logging.LogRecord) -> bool:
    if record.levelno == logging.INFO and str(record.msg).startswith(CHATTER):
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return True


def _close_run_log(source: logging.Logger) -> None:
    for handler in [handler for handler in source.handlers if isinstance(handler, _RunLog)]:
        source.removeHandler(handler)
        if source.level == handler.level_of_source:
            source.setLevel(logging.NOTSET)
