"""The report of one run: its record, and the files in its work dir that show it."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from openvocab.checkpoint.checkpoint import is_plain
from openvocab.files.atomic_files import replacing
from openvocab.metrics.base import units_of
from openvocab.model import OpenVocabModel
from openvocab.report.evaluation_record import EvaluationRecord
from openvocab.report.run_record import RunRecord
from openvocab.report.tables import results_csv, results_line
from openvocab.structures import Prediction, Sample

logger = logging.getLogger(__name__)

FIRST_COST = 3.0
"""Seconds that the first report is expected to take."""
_NOT_SHOWN = ("iter", "step", "epoch")


class RunReport:
    """Record a run, and write what it has done into a folder.

    Every method does its work or logs why it could not: the first failure is a warning, further ones are debug records.
    None raises an error, since a training matters more than its report.

    Args:
        folder: the work dir.
        earlier: what a checkpoint holds of the run so far (`to_plain`); None for a run from its beginning.
        best_key: the score by which the best validation is chosen; None for no best one.
    """

    def __init__(self, folder: Path, earlier: Any = None, best_key: str | None = None) -> None:
        self.folder = folder
        self.record = RunRecord(best_key=best_key)
        self.examples: list[tuple[Sample, Prediction]] = []
        """Predictions of the last validation."""
        self.spent = 0.0
        """Seconds spent on pictures and pages."""
        self._last_cost = FIRST_COST
        self._began_at = time.monotonic()
        self._has_warned = False
        self._columns: list[str] | None = None
        if earlier is not None:
            self._attempt("the report begins where the run was resumed", partial(self._restore, earlier))
        self._earlier_seconds = self.record.seconds

    @property
    def is_resumed(self) -> bool:
        """Whether the run had earlier parts."""
        return self._earlier_seconds > 0

    def take_row(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Add what was logged of the training to the record and to `results.csv`."""
        self._attempt("results.csv is not written", partial(self._append_row, iteration, values))

    def take_validation(self, iteration: int, scores: Mapping[str, Any], metrics: Sequence[Any]) -> None:
        """Add the scores of a validation, and the details that its metrics hold, to the record and to `results.csv`."""
        self._attempt("a validation is not reported", partial(self._add_validation, iteration, scores, metrics))
        self._attempt("results.csv is not written", self._write_results)

    def draw_batch(self, model: Any, batch: Any, number: int) -> None:
        """Draw a training batch with its targets, if the model is one of ours."""
        if isinstance(model, OpenVocabModel):
            name = f"train_batch_{number}.png"
            self._attempt(f"{name} is not drawn", partial(self._draw_batch, model, batch, self.folder / name))

    def has_time(self, share: float) -> bool:
        """Return whether another report keeps the time for all of them below a share of the run's."""
        return self.spent + self._last_cost <= share * (time.monotonic() - self._began_at)

    def write(
        self, status: str, describe: Callable[[], tuple[list[tuple[str, str]], dict[str, dict[str, str]]]]
    ) -> None:
        """Write all files; one that fails does not keep the others from being written.

        Args:
            status: one sentence about how the run is or ended.
            describe: returns the next commands, and the facts of the page by heading.
        """
        began = time.monotonic()
        self._attempt("results.csv is not written", self._write_results)
        self._attempt("the report is not written", partial(self._write_pictures_and_page, status, describe))
        self._last_cost = time.monotonic() - began
        self.spent += self._last_cost
        logger.debug(f"the report took {self._last_cost:.1f} s")

    def log_end(self, lines: Callable[[], Iterable[str]]) -> None:
        """Log the last lines of a run."""
        self._attempt("the last lines of the log are incomplete", partial(_log, lines))

    def store(self, checkpoint: dict[str, Any]) -> None:
        """Put the record into a checkpoint."""
        self._attempt("the report is not in the checkpoint", partial(self._store, checkpoint))

    def seconds(self) -> float:
        """Return the time of all parts of the run, and since this part began."""
        return self._earlier_seconds + self.part_seconds()

    def part_seconds(self) -> float:
        """Return the time since the run began or was resumed."""
        return time.monotonic() - self._began_at

    def _restore(self, content: Any) -> None:
        record = RunRecord.from_plain(content)
        if record.best_key != self.record.best_key:  # the config names another score now
            record.best_key, record.best = self.record.best_key, None
        self.record = record

    def _store(self, checkpoint: dict[str, Any]) -> None:
        self.record.seconds = self.seconds()
        content = self.record.to_plain()
        if not is_plain(content):
            raise ValueError("a metric returns scores of classes that are neither numbers nor text")
        checkpoint["report"] = content

    def _append_row(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Add a line to `results.csv`; write the file anew if it has other columns, or was not written completely."""
        is_known = self.record.add(iteration, {key: value for key, value in values.items() if key not in _NOT_SHOWN})
        columns, self._columns = self._columns, None
        if is_known or columns is None or columns != self.record.columns():
            self._write_results()
            return
        with open(self.folder / "results.csv", "a", encoding="utf-8", newline="") as file:
            file.write(results_line(self.record, columns))
        self._columns = columns

    def _write_results(self) -> None:
        self._columns = None
        _write(results_csv(self.record).encode(), self.folder / "results.csv")
        self._columns = self.record.columns()

    def _add_validation(self, iteration: int, scores: Mapping[str, Any], metrics: Sequence[Any]) -> None:
        plain = {key: float(value) for key, value in scores.items() if isinstance(value, Real)}
        self.record.add_validation(EvaluationRecord.of_metrics(iteration, metrics), plain, units_of(metrics))

    def _draw_batch(self, model: OpenVocabModel, batch: Any, path: Path) -> None:
        from openvocab.report.sample_sheets import (
            draw_training_batch,
            fast_png,
        )  # matplotlib's fonts take time to import

        _write(fast_png(draw_training_batch(model.data_preprocessor, batch)), path)

    def _write_pictures_and_page(
        self, status: str, describe: Callable[[], tuple[list[tuple[str, str]], dict[str, dict[str, str]]]]
    ) -> None:
        from openvocab.report.files import page_text, record_files  # matplotlib takes half a second to import

        self.record.seconds = self.seconds()
        for name, make in record_files(self.record, self.examples).items():
            self._attempt(f"{name} is not written", partial(_write_made, make, self.folder / name))
        status = f"{status}; written {time.strftime('%Y-%m-%d %H:%M:%S')}"
        text = page_text(self.record, self.folder, status, *describe())
        _write(text.encode(), self.folder / "report.html")

    def _attempt(self, failure: str, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # drawings of any data, a full disk, a broken font: nothing here may end a run
            level = logging.DEBUG if self._has_warned else logging.WARNING
            self._has_warned = True
            reason = f"{type(error).__name__}: {error}"
            logger.log(level, f"{failure} ({reason}): the run continues with an incomplete report")


def _log(lines: Callable[[], Iterable[str]]) -> None:
    for line in lines():
        logger.info(line)


def _write_made(make: Callable[[], bytes | None], path: Path) -> None:
    content = make()
    if content is not None:
        _write(content, path)


def _write(content: bytes, path: Path) -> None:
    with replacing(path, "wb") as file:
        file.write(content)
