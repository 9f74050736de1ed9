"""The record of a run: rows by iteration, the best score, and the tables made of both."""

import csv
import io
import math

import pytest

from openvocab.report.evaluation_record import EvaluationRecord
from openvocab.report.run_record import RunRecord
from openvocab.report.tables import class_table_rows, per_class_csv, results_csv


def evaluation(iteration: int, *rows: dict) -> EvaluationRecord:
    return EvaluationRecord(iteration, list(rows), None, [])


def record() -> RunRecord:
    run = RunRecord(best_key="mIoU")
    for iteration, score in ((2, 10.5), (4, 30.25), (6, math.nan), (8, 30.25), (10, 20.0)):
        run.add(iteration - 1, {"lr": 0.1 / iteration, "loss": 1 / 3 / iteration, "memory": 512, "note": "no number"})
        run.add(iteration, {"lr": 0.1, "loss": 1 / 7, "is_flag": True})
        rows = [{"class": "cat", "IoU": score, "pixels": 3}, {"class": "dog, the", "IoU": math.nan, "pixels": 0}]
        run.add_validation(evaluation(iteration, *rows), {"mIoU": score}, {"mIoU": "%"})
    return run


def test_a_validation_shares_the_row_of_its_iteration():
    run = record()
    assert [row["iteration"] for row in run.rows] == list(range(1, 11))
    assert run.rows[3] == {"iteration": 4, "lr": 0.1, "loss": 1 / 7, "mIoU": 30.25}
    assert run.columns() == ["iteration", "lr", "loss", "memory", "mIoU"]


def test_the_first_of_equal_scores_is_the_best_and_nan_never():
    run = record()
    assert run.best_score() == (30.25, 4) and run.best.iteration == 4 and run.last.iteration == 10
    assert RunRecord(best_key=None).best_score() is None
    run = RunRecord(best_key="mIoU")
    run.add_validation(evaluation(2), {"mIoU": math.nan}, {})
    assert run.best_score() is None and run.best is None


def test_the_table_is_read_back_with_equal_values():
    rows = list(csv.DictReader(io.StringIO(results_csv(record()))))
    assert list(rows[0]) == ["iteration", "lr", "loss", "memory (MB)", "mIoU (%)"]
    assert float(rows[0]["loss"]) == 1 / 6 and rows[0]["memory (MB)"] == "512" and rows[0]["mIoU (%)"] == ""
    assert float(rows[1]["loss"]) == 1 / 7 and float(rows[1]["mIoU (%)"]) == 10.5
    assert rows[5]["mIoU (%)"] == ""  # NaN


def test_the_table_of_classes_has_the_best_and_the_last_scores():
    run = record()
    rows = list(csv.DictReader(io.StringIO(per_class_csv(run.best, run.last))))
    assert rows[0] == {"class": "cat", "best IoU (%)": "30.25", "last IoU (%)": "20", "pixels": "3"}
    assert rows[1] == {"class": "dog, the", "best IoU (%)": "", "last IoU (%)": "", "pixels": "0"}
    assert list(class_table_rows(run.last, run.last)[0]) == ["class", "IoU (%)", "pixels"]
    assert per_class_csv(None, None) == "" == per_class_csv(None, evaluation(1))


def test_a_checkpoint_holds_all_of_it():
    run = record()
    run.seconds = 12.5
    again = RunRecord.from_plain(run.to_plain())
    assert results_csv(again) == results_csv(run) and again.best.iteration == 4 and again.seconds == 12.5
    assert per_class_csv(again.best, again.last) == per_class_csv(run.best, run.last)


@pytest.mark.parametrize("content", [{}, {"rows": []}, [], None])
def test_other_content_is_an_error_here(content):
    with pytest.raises((KeyError, TypeError)):
        RunRecord.from_plain(content)
