"""COCO's AP against pycocotools: on its published example, and on made-up images."""

import contextlib
import io
import re

import numpy as np
import pytest
from detection_samples import NAMES, make_prediction, make_sample, random_pairs, tables_of
from pycocotools import mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from openvocab.metrics.detection import CocoAveragePrecision, LvisAveragePrecision
from openvocab.metrics.detection.class_precision import AREAS
from openvocab.metrics.detection.coco import coco_average_precision
from openvocab.metrics.detection.tables import Detections, DetectionTables, Labels
from openvocab.structures import FederatedLabels

KINDS = {"box": "bbox", "mask": "segm"}
NO_PAIRS = np.zeros((0, 2), np.int32)


def pycocotools_scores(labels: COCO, found: COCO, shape: str) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator = COCOeval(labels, found, KINDS[shape])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return evaluator


def as_coco(content: dict) -> COCO:
    index = COCO()
    index.dataset = content
    with contextlib.redirect_stdout(io.StringIO()):
        index.createIndex()
    return index


def to_coco(tables: DetectionTables, rows: Labels | Detections, shape: str, num_classes: int) -> COCO:
    """The rows as pycocotools reads them."""
    annotations = []
    for index, (left, top, right, bottom) in enumerate(rows.boxes.astype(float)):
        box = [left, top, right - left, bottom - top]
        entry = {"id": index + 1, "image_id": int(rows.images[index]) + 1, "category_id": int(rows.classes[index]) + 1}
        entry |= {"bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        if shape == "mask":
            counts = {"size": tables.sizes[rows.images[index]].tolist(), "counts": rows.masks[index]}
            entry |= {"segmentation": counts, "area": float(mask.area(counts))}
        if isinstance(rows, Labels):
            entry |= {"iscrowd": int(rows.is_crowd[index]), "area": float(rows.areas[index])}
        else:
            entry["score"] = float(rows.scores[index])
        annotations.append(entry)
    images = [{"id": i + 1, "height": int(h), "width": int(w)} for i, (h, w) in enumerate(tables.sizes)]
    categories = [{"id": number + 1} for number in range(num_classes)]
    return as_coco({"images": images, "categories": categories, "annotations": annotations})


@pytest.mark.parametrize("shape", ["box", "mask"])
def test_equals_pycocotools_on_made_up_images(shape):
    masks = shape == "mask"
    tables = tables_of(*random_pairs(3, masks=masks, crowds=True), masks)
    scores = coco_average_precision(tables, len(NAMES), shape)
    sides = (to_coco(tables, rows, shape, len(NAMES)) for rows in (tables.labels, tables.detections))
    reference = pycocotools_scores(*sides, shape)
    expected = [np.nan if value == -1 else value for value in reference.stats]
    np.testing.assert_allclose(list(scores.twelve_numbers().values()), expected, atol=1e-12)
    precision = reference.eval["precision"][..., -1].mean(axis=1)  # (T, K, A)
    got = np.nan_to_num(scores.precision.values, nan=-1).transpose(1, 2, 0)
    np.testing.assert_allclose(got, precision, atol=1e-12)
    assert 0.05 < scores.twelve_numbers()["AP"] < 0.95


@pytest.mark.parametrize("shape", ["box", "mask"])
def test_prints_the_known_numbers_of_the_published_example(shape, shared_data):
    folder = shared_data / "eval_fixtures"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(folder / "instances_val2014_100.json")
        found = labels.loadRes(str(folder / f"instances_val2014_fake{KINDS[shape]}100_results.json"))
    known = _known_numbers((folder / "val2014_fake_eval_res.txt").read_text(), KINDS[shape])
    tables = _tables(labels, found, shape)
    ours = list(coco_average_precision(tables, 80, shape).twelve_numbers().values())
    reference = pycocotools_scores(labels, found, shape).stats
    assert [round(float(value), 3) for value in reference] == known
    assert [round(value, 3) for value in ours] == known
    np.testing.assert_allclose(ours, reference, atol=1e-12)


def _known_numbers(text: str, kind: str) -> list[float]:
    part = text.split(f"type={kind}")[1].split("type=")[0]
    return [float(number) for number in re.findall(r"= (\d\.\d+)$", part, re.MULTILINE)]


def _tables(labels: COCO, found: COCO, shape: str) -> DetectionTables:
    image_ids, category_ids = sorted(labels.imgs), sorted(labels.cats)
    sizes = np.array([(labels.imgs[i]["height"], labels.imgs[i]["width"]) for i in image_ids])

    def columns(index: COCO) -> tuple:
        entries = sorted(index.anns.values(), key=lambda a: (a["image_id"], -a.get("score", 0)))
        boxes = np.array([entry["bbox"] for entry in entries])
        boxes[:, 2:] += boxes[:, :2]
        counts = [labels.annToRLE(entry)["counts"] for entry in entries] if shape == "mask" else None
        masks = counts and [count.encode() if isinstance(count, str) else count for count in counts]
        images = np.searchsorted(image_ids, [entry["image_id"] for entry in entries])
        classes = np.searchsorted(category_ids, [entry["category_id"] for entry in entries])
        return entries, images, classes, boxes, masks

    entries, images, classes, boxes, masks = columns(labels)
    areas, crowd = (np.array([entry[key] for entry in entries]) for key in ("area", "iscrowd"))
    expected = Labels(images, classes, boxes, areas, crowd.astype(bool), masks)
    entries, images, classes, boxes, masks = columns(found)
    detections = Detections(images, classes, boxes, np.array([entry["score"] for entry in entries]), masks)
    return DetectionTables([str(i) for i in image_ids], sizes, expected, detections, NO_PAIRS, NO_PAIRS)


BOXES = [[0, 0, 20, 20], [40, 40, 60, 60]]


def box_ap(sample, prediction):
    return coco_average_precision(tables_of([sample], [prediction]), len(NAMES)).precision.values[0].mean(0)


def test_perfect_detections_find_everything_and_none_nothing():
    sample = make_sample("a", BOXES, [0, 1])
    perfect = box_ap(sample, make_prediction("a", BOXES, [0, 1], [0.9, 0.8]))
    assert perfect[:2].tolist() == pytest.approx([1, 1]) and np.isnan(perfect[2:]).all()
    assert box_ap(sample, make_prediction("a", [], [], []))[:2].tolist() == [0, 0]


def test_each_class_has_the_numbers_of_pycocotools_objects_and_role(logged):
    samples, predictions = random_pairs(3, masks=True, crowds=True)
    metric = CocoAveragePrecision(masks=True)
    metric.process({"sample": samples}, predictions)
    metric.evaluate(len(samples))
    tables = tables_of(samples, predictions, masks=True)
    for shape in KINDS:
        labels = to_coco(tables, tables.labels, shape, len(NAMES))
        found = to_coco(tables, tables.detections, shape, len(NAMES))
        precision = pycocotools_scores(labels, found, shape).eval["precision"]  # (T, R, K, areas, detections)
        for number, row in enumerate(metric.class_rows):
            expected = np.where(precision < 0, np.nan, 100 * precision)[:, :, number, 0, -1].mean(1)
            assert row[f"coco_{shape}_AP"] == pytest.approx(expected.mean(), abs=1e-9, nan_ok=True)
            assert row[f"coco_{shape}_AP50"] == pytest.approx(expected[0], abs=1e-9, nan_ok=True)
    assert np.isnan(metric.class_rows[5]["coco_mask_AP"]) and max(row["coco_box_AP"] for row in metric.class_rows) > 5
    countable = [sum(not entry["iscrowd"] for entry in labels.imgToAnns[i]) for i in labels.getImgIds()]
    assert sum(row["objects"] for row in metric.class_rows) == sum(countable) < len(labels.anns)
    assert [row["class"] for row in metric.class_rows] == NAMES
    assert [row["role"] for row in metric.class_rows] == ["seen"] * 4 + ["unseen"] * 2
    lines = logged[0].getMessage().splitlines()
    assert lines[1].split("  ")[-1] == "role" and "coco_mask_AP50 (%)" in lines[1] and len(lines) == 2 + len(NAMES)


def test_each_class_of_data_labeled_in_full_has_cocos_numbers_by_lvis_rules():
    samples, predictions = random_pairs(7, masks=True)
    for sample in samples:  # every class that is not labeled is known to be absent, so that no detection is ignored
        absent = set(range(len(NAMES))) - set(sample.instances.classes.tolist())
        sample.federated = FederatedLabels(tuple(absent))
    metric = LvisAveragePrecision(masks=True, fixed=False, show_classes=False)
    metric.process({"sample": samples}, predictions)
    metric.evaluate(len(samples))
    tables = tables_of(samples, predictions, masks=True)
    for shape in KINDS:
        labels, found = (to_coco(tables, rows, shape, len(NAMES)) for rows in (tables.labels, tables.detections))
        precision = pycocotools_scores(labels, found, shape).eval["precision"]
        expected = np.where(precision < 0, np.nan, 100 * precision)[..., 0, -1].mean(1)  # (T, K)
        for name, values in (("AP", expected.mean(0)), ("AP50", expected[0])):
            got = [row[f"lvis_{shape}_{name}"] for row in metric.class_rows]
            assert got == pytest.approx(values, abs=1e-9, nan_ok=True)


def test_a_second_detection_of_an_object_is_wrong():
    sample = make_sample("a", [*BOXES, [80, 80, 99, 99]], [0, 0, 0])
    found = make_prediction("a", [BOXES[0], BOXES[0], BOXES[1]], [0, 0, 0], [0.9, 0.8, 0.7])
    assert box_ap(sample, found)[0] == pytest.approx((34 + 33 * 2 / 3) / 101)


def test_crowds_neither_add_nor_take():
    sample = make_sample("a", BOXES, [0, 0], crowd=[False, True])
    found = make_prediction("a", [BOXES[0], [40, 40, 50, 50], [50, 50, 60, 60]], [0] * 3, [0.5, 0.9, 0.8])
    assert box_ap(sample, found)[0] == pytest.approx(1)


def test_only_crowds_are_no_class():
    sample = make_sample("a", BOXES, [0, 0], crowd=[True, True])
    assert np.isnan(box_ap(sample, make_prediction("a", BOXES, [0, 0], [0.5, 0.4]))).all()


def test_no_label_at_all_is_no_class():
    found = make_prediction("a", BOXES, [0, 1], [0.9, 0.8])
    scores = coco_average_precision(tables_of([make_sample("a", [], [])], [found]), len(NAMES))
    assert scores.precision.values.shape == (len(AREAS), 10, 6) and np.isnan(scores.precision.values).all()
    assert all(np.isnan(value) for value in scores.twelve_numbers().values())
