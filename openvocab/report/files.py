"""The files of a report: how each is made from the record of a run."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from openvocab.engine.run_facts import duration
from openvocab.metrics.units import with_unit
from openvocab.report.confusion_picture import draw_confusion
from openvocab.report.curves_picture import draw_curves
from openvocab.report.evaluation_record import EvaluationRecord
from openvocab.report.page import ReportContent, report_page
from openvocab.report.precision_recall_picture import draw_precision_recall
from openvocab.report.run_record import RunRecord
from openvocab.report.sample_sheets import draw_predictions, fast_png
from openvocab.report.tables import class_table_rows, per_class_csv
from openvocab.structures import Prediction, Sample

HEADINGS = {
    "Losses and scores": "curves.png",
    "Predictions of the last validation": "val_predictions.png",
    "Precision and recall": "precision_recall.png",
    "Which classes are mistaken for which": "confusion_matrix.png",
    "The first training batches, as the network gets them": "train_batch_*.png",
}
"""The pictures of the page in their order; a heading may have several files."""
LARGE_PICTURE = 400_000
"""Bytes of a PNG file above which the page holds a JPEG file instead."""


def record_files(
    record: RunRecord, examples: Sequence[tuple[Sample, Prediction]]
) -> dict[str, Callable[[], bytes | None]]:
    """Return {name of a file: function that returns its content, None if there is nothing to show}."""
    evaluation = record.best or record.last
    return {
        "per_class.csv": lambda: per_class_csv(record.best, record.last).encode() or None,
        "curves.png": lambda: draw_curves(record),
        "confusion_matrix.png": lambda: _confusion(record, evaluation),
        "precision_recall.png": lambda: draw_precision_recall(evaluation.curves if evaluation else []),
        "val_predictions.png": lambda: _predictions(examples),
    }


def page_text(
    record: RunRecord,
    folder: Path,
    status: str,
    commands: Sequence[tuple[str, str]],
    facts: Mapping[str, Mapping[str, str]],
) -> str:
    """Return `report.html` with the pictures that are in `folder`."""
    content = ReportContent(
        title=folder.resolve().name,
        status=status,
        cards=_cards(record),
        scores=_scores(record),
        pictures={heading: _pictures(folder, pattern) for heading, pattern in HEADINGS.items()},
        class_rows=class_table_rows(record.best, record.last),
        class_note=_class_note(record),
        commands=commands,
        facts=facts,
    )
    return report_page(content)


def _confusion(record: RunRecord, evaluation: EvaluationRecord | None) -> bytes | None:
    if evaluation is None or evaluation.confusion is None:
        return None
    merged = any(name.endswith("other classes") for name in evaluation.confusion.class_names[-1:])
    part = f": the {len(evaluation.confusion.class_names) - 1} classes with the most mistakes" if merged else ""
    return draw_confusion(evaluation.confusion, f"{_which(record, evaluation)}{part}")


def _predictions(examples: Sequence[tuple[Sample, Prediction]]) -> bytes | None:
    sheet = draw_predictions(examples)
    return None if sheet is None else fast_png(sheet)


def _pictures(folder: Path, pattern: str) -> list[bytes]:
    return [_smaller(path.read_bytes()) for path in sorted(folder.glob(pattern))]


def _smaller(png: bytes) -> bytes:
    """Return a PNG file, or a JPEG file of the picture if it is large: pages travel over networks."""
    if len(png) <= LARGE_PICTURE:
        return png
    file = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(file, "JPEG", quality=88, subsampling=0)
    return file.getvalue()


def _cards(record: RunRecord) -> list[tuple[str, str]]:
    """Return the most important numbers with what they are."""
    cards = []
    best = record.best_score()
    if best is not None:
        score = with_unit(best[0], record.units.get(str(record.best_key), ""))
        cards.append((score, f"best {record.best_key}, at iteration {best[1]}"))
    iterations, losses = record.series("loss")
    if losses:
        cards.append((f"{losses[-1]:.4g}", f"loss at iteration {iterations[-1]}"))
    cards.append((duration(record.seconds), "training, with validations"))
    times = record.series("time")[1]
    if times:
        cards.append((f"{times[-1]:.3g} s", "per iteration"))
    return cards


def _scores(record: RunRecord) -> list[dict[str, Any]]:
    """Return one row per score: at the best and at the last validation."""
    rows = []
    best, last = record.best, record.last
    values = {int(row["iteration"]): row for row in record.rows}
    for name in record.scores:
        row: dict[str, Any] = {"score": record.titled(name)}
        if best is not None:
            row[f"best validation, iteration {best.iteration}"] = values.get(best.iteration, {}).get(name)
        if last is not None and (best is None or last.iteration != best.iteration):
            row[f"last validation, iteration {last.iteration}"] = values.get(last.iteration, {}).get(name)
        rows.append(row)
    return rows


def _class_note(record: RunRecord) -> str:
    best, last = record.best, record.last
    if best is not None and last is not None and best.iteration != last.iteration:
        return f"best: the validation at iteration {best.iteration}; last: the one at iteration {last.iteration}"
    evaluation = best or last
    return f"of the validation at iteration {evaluation.iteration}" if evaluation is not None else ""


def _which(record: RunRecord, evaluation: EvaluationRecord) -> str:
    kind = "Best" if evaluation is record.best else "Last"
    return f"{kind} validation, iteration {evaluation.iteration}"
