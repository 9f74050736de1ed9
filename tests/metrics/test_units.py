"""Numbers are shown and written with their units, and only those that have one."""

import math

import pytest
from mmengine.evaluator import BaseMetric

from openvocab.metrics.base import Metric, units_of
from openvocab.metrics.class_table import class_table, column_units, merge_rows
from openvocab.metrics.units import with_unit, with_units


class MixedMetric(Metric):
    """A percentage and a count."""

    def result_keys(self, vocabulary):
        return ["recall", "objects"]

    def unit_of(self, key):
        return "" if key == "objects" else super().unit_of(key)

    def process(self, data_batch, data_samples): ...

    def compute_metrics(self, results):
        return {"recall": 0.3314, "objects": 12}


class ForeignMetric(BaseMetric):
    """Declares nothing, as mmengine's own."""

    def process(self, data_batch, data_samples): ...

    def compute_metrics(self, results):
        return {"recall": 0.3}


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.3314, "%", "0.33 %"),
        (100.0, "%", "100.00 %"),
        (0.3314, "", "0.3314"),
        (12, "", "12"),
        (math.nan, "%", "nan"),
        (0.5, "s", "0.50 s"),
    ],
)
def test_a_number_is_shown_with_its_unit(value, unit, shown):
    assert with_unit(value, unit) == shown


def test_units_are_those_that_metrics_declare():
    prefixed = MixedMetric()
    prefixed.prefix = "own"
    assert units_of([MixedMetric(), prefixed, ForeignMetric()]) == {"recall": "%", "own/recall": "%"}
    assert with_units({"recall": 0.3314, "objects": 12}, {"recall": "%"}) == "recall: 0.33 %\nobjects: 12"


def test_a_table_marks_percentages_and_aligns():
    rows = [
        {"class": "cat", "IoU": 5.0, "pixels": 1200, "role": None},
        {"class": "traffic light", "IoU": math.nan, "pixels": 7, "role": "unseen"},
    ]
    assert column_units(rows) == {"IoU": "%"}
    assert class_table(rows).splitlines() == [
        "class          IoU (%)  pixels  role",
        "cat               5.00    1200",
        "traffic light      nan       7  unseen",
    ]


def test_tables_of_several_metrics_stand_side_by_side():
    tables = [{"class": "a", "IoU": 1.0}, {"class": "b", "IoU": 2.0}], [{"class": "a", "AP": 3.0}]
    assert merge_rows(tables) == [{"class": "a", "IoU": 1.0, "AP": 3.0}, {"class": "b", "IoU": 2.0}]
