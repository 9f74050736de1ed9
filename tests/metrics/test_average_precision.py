"""The metrics of detection: names, roles of classes, ranks, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from detection_samples import (
    NAMES,
    SIZE,
    VOCABULARY,
    make_prediction,
    make_sample,
    random_pairs,
    slow_federated_ap,
    tables_of,
)
from mmengine.dist import get_rank
from two_ranks import run_two_ranks

from openvocab.metrics.detection import CocoAveragePrecision, LvisAveragePrecision
from openvocab.structures import FederatedLabels, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

BOXES = [[0, 0, 20, 20], [40, 40, 60, 60]]
LETTERS = "rrccff"
CATEGORY_IDS = [10, 20, 30, 40, 50, 60]


def evaluate(metric, samples, predictions, size=None, batch=5, meta=None):
    metric.dataset_meta = {"dataset": "toy", "category_ids": CATEGORY_IDS, **(meta or {})}
    for start in range(0, len(samples), batch):
        part = slice(start, start + batch)
        metric.process({"sample": samples[part]}, predictions[part])
    return metric.evaluate(size or len(samples))


def one_image(boxes=BOXES, classes=(0, 1), scores=(0.9, 0.8), name="a", **sample):
    return make_sample("a", BOXES, [0, 1], **sample), make_prediction(name, boxes, classes, scores)


def test_perfect_detections_score_hundred_and_unseen_classes_have_a_name_of_their_own():
    sample = make_sample("a", BOXES, [0, 4], masks=True)
    metric = CocoAveragePrecision(masks=True)
    metrics = evaluate(metric, [sample], [make_prediction("a", BOXES, [0, 5], [0.9, 0.8], masks=True)])
    six = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
    names = {f"coco_{shape}_{key}" for shape in ("box", "mask") for key in six}
    names |= {f"ovd_{shape}_AP50_{role}" for shape in ("box", "mask") for role in ("base", "novel", "all")}
    assert set(metrics) == names
    for shape in ("box", "mask"):
        assert metrics[f"ovd_{shape}_AP50_base"] == pytest.approx(100)  # class 0 is found
        assert metrics[f"ovd_{shape}_AP50_novel"] == 0  # class 4 was taken for class 5, which has no objects
        assert metrics[f"ovd_{shape}_AP50_all"] == metrics[f"coco_{shape}_AP50"] == pytest.approx(50)
        assert np.isnan(metrics[f"coco_{shape}_AP_large"])
    assert metric.protocol["images"] == 1 and metric.protocol["class_list_sha256"] == VOCABULARY.digest
    assert "COCO" in metric.protocol["average_precision"] and metric.protocol["unseen_classes"] == 2


def test_a_mean_over_no_class_is_nan():
    metrics = evaluate(CocoAveragePrecision(), *([part] for part in one_image()))
    assert metrics["ovd_box_AP50_base"] == pytest.approx(100) and np.isnan(metrics["ovd_box_AP50_novel"])


def test_without_flags_there_is_no_base_and_novel():
    plain = Vocabulary.from_names(NAMES)
    sample, found = (
        make_sample("a", BOXES, [0, 1], vocabulary=plain),
        make_prediction("a", [], [], [], vocabulary=plain),
    )
    metrics = evaluate(CocoAveragePrecision(), [sample], [found])
    assert not any(name.startswith("ovd") for name in metrics) and metrics["coco_box_AP"] == 0


def test_lvis_numbers_equal_the_loop_by_frequency_standard_and_fixed():
    samples, predictions = random_pairs(2, images=6, federated=True, detections=20)
    metric = LvisAveragePrecision(frequencies=LETTERS)
    metrics = evaluate(metric, samples, predictions)
    values = slow_federated_ap(tables_of(samples, predictions), len(NAMES))
    letters = np.array(list(LETTERS))
    expected = {"AP": values[0], "AP50": values[0, 0], "AP75": values[0, 5]}
    expected |= {"AP_small": values[1], "AP_medium": values[2], "AP_large": values[3]}
    expected |= {f"AP_{letter}": values[0][:, letters == letter] for letter in "rcf"}
    expected |= {
        "fixed_AP": values[0],
        **{f"fixed_AP_{k}": values[0][:, letters == k] for k in "rcf"},
    }  # no limit bites
    assert set(metrics) == {f"lvis_box_{name}" for name in expected}
    for name, value in expected.items():
        present = value[~np.isnan(value)]
        mean = 100 * present.mean() if present.size else np.nan
        assert metrics[f"lvis_box_{name}"] == pytest.approx(mean, abs=1e-9, nan_ok=True)
    assert "10000" in metric.protocol["average_precision"]


def test_classes_have_lvis_numbers_of_their_own():
    samples, predictions = random_pairs(2, images=6, federated=True, detections=20)
    metric = LvisAveragePrecision(frequencies=LETTERS)
    evaluate(metric, samples, predictions)
    tables = tables_of(samples, predictions)
    values = slow_federated_ap(tables, len(NAMES))[0]  # (T, K); no limit bites, so that fixed AP is the same
    for name in ("lvis_box", "lvis_box_fixed"):
        assert [row[f"{name}_AP"] for row in metric.class_rows] == pytest.approx(100 * values.mean(0), nan_ok=True)
        assert [row[f"{name}_AP50"] for row in metric.class_rows] == pytest.approx(100 * values[0], nan_ok=True)
    assert [row["objects"] for row in metric.class_rows] == np.bincount(tables.labels.classes, minlength=6).tolist()
    words = ["rare", "rare", "common", "common", "frequent", "frequent"]
    assert [row["frequency"] for row in metric.class_rows] == words
    assert [row["role"] for row in metric.class_rows] == ["seen"] * 4 + ["unseen"] * 2


def test_masks_that_lvis_never_looks_at_are_dropped_without_a_change():
    samples, predictions = random_pairs(4, images=5, federated=True, masks=True, detections=20)
    metrics = evaluate(LvisAveragePrecision(masks=True, fixed=False), samples, predictions)
    values = slow_federated_ap(tables_of(samples, predictions, masks=True), len(NAMES), "mask")
    assert metrics["lvis_mask_AP"] == pytest.approx(100 * np.nanmean(values[0]), abs=1e-9)
    assert not any("fixed" in name or name.endswith("_r") for name in metrics)


def test_frequencies_come_from_the_data_set_too():
    samples, predictions = random_pairs(2, images=3, federated=True)
    by_data = evaluate(LvisAveragePrecision(), samples, predictions, meta={"frequencies": LETTERS})
    by_argument = evaluate(LvisAveragePrecision(frequencies=LETTERS), samples, predictions)
    assert by_data == pytest.approx(by_argument, nan_ok=True) and "lvis_box_AP_r" in by_data


def test_classes_without_objects_are_named_crowds_being_none(logged):
    sample = make_sample("a", BOXES, [0, 1])
    sample.instances.is_crowd = torch.tensor([False, True])
    metric = CocoAveragePrecision(show_classes=False)
    assert evaluate(metric, [sample], [make_prediction("a", BOXES, [0, 1], [0.9, 0.8])])["coco_box_AP50"] == 100
    absent = list(VOCABULARY.class_names[1:])
    assert metric.protocol["classes_without_objects"] == absent
    (record,) = logged
    assert "5 of 6 classes have no object in the evaluated data" in record.getMessage()
    assert record.levelname == "WARNING" and record.getMessage().endswith(": " + ", ".join(absent))


def test_a_fixed_ap_of_too_few_detections_is_said_aloud(logged):
    samples, predictions = random_pairs(2, images=3, federated=True)
    evaluate(LvisAveragePrecision(fixed=False, show_classes=False), samples, predictions)
    assert not [record for record in logged if "fixed AP" in record.getMessage()]
    evaluate(LvisAveragePrecision(show_classes=False), samples, predictions)
    (said,) = [record.getMessage() for record in logged if "fixed AP" in record.getMessage()]
    assert "no image has more than 300 detections" in said


@pytest.mark.parametrize("letters", ["rcf", "rrccfx"])
def test_refuses_frequencies_that_do_not_fit(letters):
    with pytest.raises(ValueError, match="expected 6 letters"):
        evaluate(LvisAveragePrecision(frequencies=letters), *random_pairs(2, images=1, federated=True))


def test_order_and_repeated_images_do_not_matter():
    samples, predictions = random_pairs(6)
    expected = evaluate(CocoAveragePrecision(), samples, predictions)
    order = [*reversed(range(len(samples))), 3, 7]
    again = evaluate(CocoAveragePrecision(), [samples[i] for i in order], [predictions[i] for i in order], len(samples))
    assert again == pytest.approx(expected, nan_ok=True)


def test_an_evaluation_starts_anew():
    metric, pair = CocoAveragePrecision(), [[part] for part in one_image()]
    assert evaluate(metric, *pair) == pytest.approx(evaluate(metric, *pair), nan_ok=True)
    with pytest.raises(ValueError, match="no image was processed"):
        metric.evaluate(1)


def test_results_are_written_for_other_tools(tmp_path):
    sample = make_sample("000139", BOXES, [0, 1], masks=True)
    found = make_prediction("000139", BOXES, [0, 5], [0.5, 0.75], masks=True)
    path = tmp_path / "out" / "results.json"
    evaluate(CocoAveragePrecision(masks=True, results_file=str(path)), [sample], [found])
    best, second = json.loads(path.read_text())
    assert best["image_id"] == 139 and best["category_id"] == 60 and best["bbox"] == [40, 40, 20, 20]
    assert second["score"] == 0.5 and second["segmentation"]["counts"] == found.masks[0]["counts"].decode()
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


@pytest.mark.parametrize("ids", [[1, 2], [1, 2, 3, 4, 5, None]])
def test_refuses_to_write_without_category_ids(ids, tmp_path):
    metric = CocoAveragePrecision(results_file=str(tmp_path / "results.json"))
    with pytest.raises(ValueError, match=r"category_ids.*expected 6"):
        evaluate(metric, *([part] for part in one_image()), meta={"category_ids": ids})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "b"}, "'a': its prediction is for another image, 'b'"),
        ({"scores": (0.5, float("nan"))}, "1 of 2 scores are NaN"),
        ({"scores": (0.5,)}, r"scores: expected shape \(2,\)"),
        (
            {"boxes": [[0, 0, 5, 5], [9, 9, 4, 12]]},
            "1 detected boxes of negative size, such as \\[9.0, 9.0, 4.0, 12.0\\]",
        ),
        ({"boxes": [[0, 0, 5, 5], [0, 0, float("inf"), 5]]}, "a detected box is NaN or infinite"),
        ({"classes": (0, 6)}, "detected class 6 is not among the 6"),
        ({"classes": (0, -1)}, "detected class -1"),
        ({"crowd": [True]}, "expected 2 crowd flags"),
    ],
)
def test_refuses_bad_input_by_name(change, message):
    sample, found = one_image(**change)
    with pytest.raises(ValueError, match=f"sample 'a'.*{message}|{message}"):
        evaluate(CocoAveragePrecision(), [sample], [found])


def test_refuses_labels_that_cannot_be_measured():
    _, found = one_image()
    cases = [
        (Sample("a", VOCABULARY, SIZE, SIZE), "no instances"),
        (make_sample("a", [[5, 5, 1, 9]], [0]), "1 labeled boxes of negative size"),
        (make_sample("a", BOXES, [0, 9]), "labeled class 9"),
    ]
    for sample, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluate(CocoAveragePrecision(), [sample], [found])
    with pytest.raises(ValueError, match="'a' has another vocabulary|another vocabulary than the sample"):
        other = make_sample("a", BOXES, [0, 1], vocabulary=Vocabulary.from_names(NAMES))
        evaluate(CocoAveragePrecision(), [other], [found])


def test_refuses_missing_and_misfit_masks():
    sample, found = one_image()
    with pytest.raises(ValueError, match="instances have no masks"):
        evaluate(CocoAveragePrecision(masks=True), [sample], [found])
    sample, _ = one_image(masks=True)
    with pytest.raises(ValueError, match="prediction has no masks"):
        evaluate(CocoAveragePrecision(masks=True), [sample], [found])
    found = make_prediction("a", BOXES, [0, 1], [0.9, 0.8], masks=True)
    found.masks[1]["size"] = [3, 3]
    with pytest.raises(ValueError, match="a detected mask: expected shape"):
        evaluate(CocoAveragePrecision(masks=True), [sample], [found])


def test_lvis_needs_to_know_what_was_looked_for():
    with pytest.raises(ValueError, match="use CocoAveragePrecision"):
        evaluate(LvisAveragePrecision(), *([part] for part in one_image()))
    sample, found = one_image(federated=FederatedLabels((7,)))
    with pytest.raises(ValueError, match="federated class 7"):
        evaluate(LvisAveragePrecision(), [sample], [found])


def _metrics_of_rank(rank: int) -> list:
    assert get_rank() == rank
    outcome = []
    for metric, kind in (
        (CocoAveragePrecision(masks=True), {"crowds": True}),
        (LvisAveragePrecision(), {"federated": True}),
    ):
        samples, predictions = random_pairs(8, images=7, masks=True, **kind)
        own = [*range(rank, 7, 2), 0][:4]  # as a sampler deals; the last image of the second rank fills up
        metrics = evaluate(metric, [samples[i] for i in own], [predictions[i] for i in own], 7)
        outcome += [metrics, metric.protocol["images"], metric.class_rows]
    metric = LvisAveragePrecision(fixed=False)
    if rank == 1:  # the first rank saw nothing; what it computes fails, and both hear of it
        metric.process({"sample": [make_sample("a", BOXES, [0, 1], crowd=[1, 0], federated=FederatedLabels())]},
                       [make_prediction("a", [], [], [])])  # fmt: skip
    try:
        metric.evaluate(1)
    except ValueError as error:
        outcome.append(str(error))
    return outcome


def test_two_ranks_equal_one_and_share_a_failure():
    results = run_two_ranks(_metrics_of_rank)
    for position, (metric, kind) in enumerate(
        ((CocoAveragePrecision(masks=True), {"crowds": True}), (LvisAveragePrecision(), {"federated": True}))
    ):
        alone = evaluate(metric, *random_pairs(8, images=7, masks=True, **kind))
        for result in results:
            metrics, images, rows = result[3 * position : 3 * position + 3]
            assert metrics == pytest.approx(alone, abs=1e-9, nan_ok=True) and images == 7
            assert [str(row) for row in rows] == [str(row) for row in metric.class_rows]  # NaN is not equal to itself
    assert all("1 labels are crowds" in result[6] for result in results)


def test_tensors_on_loan_are_not_kept():
    sample, found = one_image()
    metric = CocoAveragePrecision()
    metric.process({"sample": [sample]}, [found])
    found.boxes.zero_()
    sample.instances.classes.fill_(3)
    assert metric.evaluate(1)["coco_box_AP"] == pytest.approx(100)
    assert torch.equal(found.boxes, torch.zeros(2, 4))
