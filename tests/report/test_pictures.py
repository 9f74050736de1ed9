"""Diagrams of a report: readable for 2 and for 150 classes, whatever the names are, and without global state."""

import io
import sys
import warnings

import matplotlib
import numpy as np
import pytest
from PIL import Image

from openvocab.metrics.class_confusion import ClassConfusion
from openvocab.metrics.precision_recall import summarize_curves
from openvocab.report.confusion_picture import draw_confusion
from openvocab.report.curves_picture import draw_curves
from openvocab.report.evaluation_record import MAX_CONFUSED, EvaluationRecord
from openvocab.report.precision_recall_picture import draw_precision_recall
from openvocab.report.run_record import RunRecord
from openvocab.vocabulary.vocabulary import Vocabulary

ODD_NAMES = ["_hidden", "$x_{1$ and $", "猫", "<b>", "a very long name of a class that goes on and on and on"]


def names(count: int) -> list[str]:
    return [*ODD_NAMES, *(f"class {index}" for index in range(count))][:count]


def confusion(count: int) -> ClassConfusion:
    counts = np.random.default_rng(0).integers(0, 5, (count, count)) + 50 * np.eye(count, dtype=int)
    return ClassConfusion(tuple(names(count)), counts, "pixels").most_confused(MAX_CONFUSED)


def curves(count: int) -> bytes | None:
    recalls = np.linspace(0, 1, 101)
    precision = 1 - recalls[:, None] ** np.random.default_rng(0).uniform(0.5, 5, count)
    summary = summarize_curves("box", recalls, precision, Vocabulary.from_names(names(count)))
    return draw_precision_recall([summary])


def opened(png: bytes | None) -> Image.Image:
    assert png is not None
    return Image.open(io.BytesIO(png)).convert("RGB")


def margins_are_clean(picture: Image.Image) -> bool:
    """Whether nothing touches the edge of a picture, as cut text would."""
    pixels = np.asarray(picture)
    return all((edge == 255).all() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]))


@pytest.mark.parametrize("count", [1, 2, 24, 150])
def test_diagrams_have_a_sensible_size_and_no_text_is_cut(count):
    for picture in map(opened, (draw_confusion(confusion(count), "Best validation, iteration 600"), curves(count))):
        assert 400 < picture.width < 2100 and 350 < picture.height < 2000
        assert margins_are_clean(picture)


def test_the_matrix_is_darkest_where_most_predictions_are():
    matrix = ClassConfusion(("cat", "dog"), np.array([[99, 1], [40, 60]]), "images")
    picture = np.asarray(opened(draw_confusion(matrix, "t")).convert("L"), dtype=float)
    cells = picture[60:480, 150:560]
    assert cells[:150, :150].mean() < cells[-150:, -150:].mean() < cells[-150:, :150].mean() < cells[:150, -150:].mean()


def record(validations: int) -> RunRecord:
    run = RunRecord(best_key="mIoU")
    for step in range(1, validations * 10 + 1):
        run.add(step, {"lr": 0.1, "loss": 100.0 / step, "loss_a": 1.0, "loss_b": 2.0})
        if step % 10 == 0:
            scores = {"mIoU": float(step), **{f"score {index}": float(index) for index in range(12)}}
            run.add_validation(
                EvaluationRecord(step, [], None, []), scores, dict.fromkeys(scores, "%") | {"score 3": ""}
            )
    return run


@pytest.mark.parametrize("validations", [1, 3, 200])
def test_losses_and_scores_are_drawn_whole(validations):
    assert margins_are_clean(opened(draw_curves(record(validations))))


def test_nothing_logged_draws_nothing():
    assert draw_curves(RunRecord()) is None
    assert draw_confusion(ClassConfusion((), np.zeros((0, 0), int), "pixels"), "t") is None
    assert draw_precision_recall([]) is None


def test_a_single_point_and_numbers_that_are_not_finite_are_drawn():
    run = RunRecord(best_key="mIoU")
    run.add(50, {"loss": float("nan"), "lr": 0.0, "loss_a": float("inf"), "loss_b": 1.0})
    assert opened(draw_curves(run))


def test_global_state_of_matplotlib_is_not_touched():
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion(confusion(5), "t"), curves(5), draw_curves(record(1))
    assert dict(matplotlib.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
