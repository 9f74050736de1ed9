"""Tables on disk: the same back, whole or not at all."""

from dataclasses import fields

import numpy as np
import pytest
from detection_samples import make_prediction, make_sample, random_pairs, tables_of

from openvocab.metrics.detection.exchange import gather_tables, read_tables, write_coco_results, write_tables
from openvocab.metrics.detection.tables import merge_tables


def assert_same(got, expected):
    assert got.sample_ids == expected.sample_ids
    for name in ("sizes", "negative", "not_exhaustive"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))
    for rows, others in ((got.labels, expected.labels), (got.detections, expected.detections)):
        for field in fields(rows):
            np.testing.assert_array_equal(getattr(rows, field.name), getattr(others, field.name))


@pytest.mark.parametrize("masks", [False, True])
def test_tables_come_back_as_they_were(masks, tmp_path):
    tables = tables_of(*random_pairs(0, masks=masks, crowds=True, federated=True), masks)
    write_tables(tables, tmp_path / "00000.npz")
    assert_same(read_tables(tmp_path / "00000.npz"), tables)
    assert [path.name for path in tmp_path.iterdir()] == ["00000.npz"]


def test_images_are_put_in_order_and_once():
    samples, predictions = random_pairs(0, images=12, masks=True, federated=True)
    expected = tables_of(samples, predictions, masks=True)
    assert expected.sample_ids == [str(i) for i in range(12)]  # 10 behind 9
    order = [11, 3, 3, *range(12), 0]
    shuffled = tables_of([samples[i] for i in order], [predictions[i] for i in order], masks=True)
    assert_same(shuffled, expected)
    parts = [tables_of(samples[i::3], predictions[i::3], masks=True) for i in range(3)]
    assert_same(merge_tables(parts), expected)


def test_a_failed_write_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("earlier")
    tables = tables_of([make_sample("a", [], [])], [make_prediction("a", [[0, 0, 5, 5]], [5], [0.5])])
    with pytest.raises(IndexError):
        write_coco_results(path, tables, category_ids=[1])
    assert path.read_text() == "earlier" and len(list(tmp_path.iterdir())) == 1
    write_coco_results(path, tables_of([make_sample("a", [], [])], [make_prediction("a", [], [], [])]), [1])
    assert path.read_text() == "[]\n"


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image was processed"):
        gather_tables([], None)
