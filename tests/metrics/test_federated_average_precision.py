"""LVIS's AP on arrays against one detection at a time, and its properties."""

import numpy as np
import pytest
from detection_samples import NAMES, make_prediction, make_sample, random_pairs, slow_federated_ap, tables_of

from openvocab.metrics.detection import greedy_matching
from openvocab.metrics.detection.class_precision import AREAS, THRESHOLDS
from openvocab.metrics.detection.lvis import federated_average_precision
from openvocab.structures import FederatedLabels

BOXES = [[0, 0, 20, 20], [40, 40, 60, 60]]
K = len(NAMES)
NOTHING_ABSENT = FederatedLabels()


def one_image(boxes, classes, scores, federated=NOTHING_ABSENT, labels=BOXES, label_classes=(0, 1)):
    sample = make_sample("a", labels, label_classes, federated=federated)
    return tables_of([sample], [make_prediction("a", boxes, classes, scores)])


def box_ap(tables, **limits):
    """Of each class, over all overlaps."""
    return federated_average_precision(tables, K, **limits).values[0].mean(0)


@pytest.mark.parametrize("limits", [(300, None), (7, None), (None, 11)], ids=["standard", "few an image", "fixed"])
@pytest.mark.parametrize("shape", ["box", "mask"])
def test_equals_the_loop(shape, limits):
    masks = shape == "mask"
    samples, predictions = random_pairs(1, images=8, masks=masks, federated=True, detections=24)
    tables = tables_of(samples, predictions, masks)
    limits = dict(zip(("max_per_image", "max_per_class"), limits))
    got = federated_average_precision(tables, K, shape, **limits).values
    expected = slow_federated_ap(tables, K, shape, **limits)
    assert got.shape == (len(AREAS), len(THRESHOLDS), K) and np.nanmax(got) > 0.05
    np.testing.assert_allclose(got, expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_loop_in_crowded_groups_whatever_the_chunks(seed, monkeypatch):
    monkeypatch.setattr(greedy_matching, "PAIRS_AT_ONCE", 13)
    samples, predictions = random_pairs(seed, images=5, federated=True, spread=1.0, detections=60)
    for sample, prediction in zip(samples, predictions):
        sample.instances.classes %= 2
        prediction.classes %= 2
    tables = tables_of(samples, predictions)
    got = federated_average_precision(tables, K).values
    np.testing.assert_allclose(got, slow_federated_ap(tables, K), atol=1e-9, rtol=0)


def test_perfect_detections_find_everything_and_none_nothing():
    ap = box_ap(one_image(BOXES, [0, 1], [0.9, 0.8]))
    assert ap[:2].tolist() == pytest.approx([1, 1]) and np.isnan(ap[2:]).all()
    assert box_ap(one_image([], [], []))[:2].tolist() == [0, 0]


def test_a_second_detection_of_an_object_is_wrong():
    before = box_ap(one_image(BOXES, [0, 1], [0.9, 0.8]))
    twice = one_image(
        [*BOXES, BOXES[0]], [0, 1, 0], [0.9, 0.8, 0.95], labels=[*BOXES, [80, 80, 99, 99]], label_classes=(0, 1, 0)
    )
    assert box_ap(twice)[0] == pytest.approx(51 / 101) and before[0] == pytest.approx(1)


def test_what_was_not_looked_for_is_ignored_and_what_is_absent_is_wrong():
    boxes, classes, scores = [*BOXES, [80, 80, 99, 99]], [0, 1, 2], [0.5, 0.5, 0.9]
    other = make_sample("b", [[80, 80, 99, 99]], [2], federated=FederatedLabels())
    found = make_prediction("b", [[80, 80, 99, 99]], [2], [0.4])
    for negative, expected in (((), 1.0), ((2,), 0.5)):
        sample = make_sample("a", BOXES, [0, 1], federated=FederatedLabels(negative))
        tables = tables_of([sample, other], [make_prediction("a", boxes, classes, scores), found])
        assert box_ap(tables)[2] == pytest.approx(expected)


def test_a_class_not_labeled_exhaustively_has_no_wrong_detections():
    boxes, classes, scores = [*BOXES, [80, 80, 99, 99]], [0, 1, 0], [0.5, 0.5, 0.9]
    assert box_ap(one_image(boxes, classes, scores))[0] == pytest.approx(0.5)
    lenient = one_image(boxes, classes, scores, FederatedLabels((), (0,)))
    assert box_ap(lenient)[0] == pytest.approx(1.0)


def test_the_limit_of_an_image_comes_before_the_federated_filter():
    boxes, classes = [[80, 80, 99, 99], *BOXES], [5, 0, 1]  # class 5 is ignored, and takes a place
    tables = one_image(boxes, classes, [0.9, 0.8, 0.7])
    assert box_ap(tables, max_per_image=2)[:2].tolist() == pytest.approx([1, 0])
    assert box_ap(tables, max_per_image=3)[:2].tolist() == pytest.approx([1, 1])


def test_fixed_ap_limits_classes_over_the_data_set_and_not_images():
    samples = [make_sample(name, BOXES[:1], [0], federated=FederatedLabels()) for name in "abc"]
    predictions = [make_prediction(name, BOXES, [0, 1], [score, 0.99]) for name, score in zip("abc", (0.9, 0.8, 0.7))]
    tables = tables_of(samples, predictions)
    for limit, found in ((1, 34), (2, 67), (3, 101)):  # recall 1/3, 2/3, 1 at precision 1
        assert box_ap(tables, max_per_image=None, max_per_class=limit)[0] == pytest.approx(found / 101)


def test_order_of_images_does_not_matter():
    samples, predictions = random_pairs(5, federated=True)
    order = np.random.default_rng(0).permutation(len(samples))
    shuffled = tables_of([samples[i] for i in order], [predictions[i] for i in order])
    expected = federated_average_precision(tables_of(samples, predictions), K).values
    np.testing.assert_array_equal(federated_average_precision(shuffled, K).values, expected)


def test_boxes_without_area_are_no_trouble():
    point = [[5, 5, 5, 5]]
    with np.errstate(all="raise"):
        ap = box_ap(one_image(point, [0], [0.9], labels=point, label_classes=(0,)))
    assert ap[0] == 0


def test_crowds_are_refused():
    sample = make_sample("a", BOXES, [0, 1], crowd=[True, False], federated=FederatedLabels())
    with pytest.raises(ValueError, match="1 labels are crowds"):
        federated_average_precision(tables_of([sample], [make_prediction("a", [], [], [])]), K)
