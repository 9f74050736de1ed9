"""Small, medium and large by the areas that an annotation file states, through the dataset, as official tools count.

The areas are drawn at random, so that neither boxes nor masks can give them.
"""

import contextlib
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from detection_samples import NAMES, SIZE, random_pairs, slow_federated_ap, tables_of
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from openvocab.datasets.detection import DetectionDataset
from openvocab.metrics.detection.average_precision import CocoAveragePrecision, LvisAveragePrecision

KINDS = {"box": "bbox", "mask": "segm"}
MEANS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_small": 3, "AP_medium": 4, "AP_large": 5}
"""Place of each among the numbers that COCO's evaluator prints."""


def write_file(folder, samples, federated=False):
    """Write images and their objects with the images' numbers from 1 as ids; return the path and the areas."""
    generator = np.random.default_rng(1)
    images, annotations = [], []
    for number, sample in enumerate(samples, start=1):
        Image.new("L", SIZE[::-1]).save(folder / f"{number}.png")
        entry = {"id": number, "file_name": f"{number}.png", "height": SIZE[0], "width": SIZE[1]}
        if federated:
            entry["neg_category_ids"] = [index + 1 for index in sample.federated.negative]
            entry["not_exhaustive_category_ids"] = [index + 1 for index in sample.federated.not_exhaustive]
        images.append(entry)
        for (left, top, right, bottom), index in zip(
            sample.instances.boxes.tolist(), sample.instances.classes.tolist()
        ):
            middle = (top + bottom) / 2
            outline = [left, top, right, top, right, middle, left, bottom]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": index + 1,
                    "bbox": [left, top, right - left, bottom - top],
                    "segmentation": [outline],
                    "area": float(generator.choice([10, 900, 1024.5, 4000, 9216.5, 30_000])),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(NAMES)]
    path = folder / "labels.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path, np.array([annotation["area"] for annotation in annotations])


def evaluated(dataset, metric, predictions):
    metric.dataset_meta = dataset.metainfo
    for index, prediction in enumerate(predictions):
        sample = dataset[index]["sample"]
        found = replace(prediction, sample_id=sample.sample_id, vocabulary=sample.vocabulary)
        metric.process({"sample": [sample]}, [found])
    return metric.evaluate(len(dataset))


@pytest.mark.parametrize(("shape", "with_masks"), [("box", False), ("box", True), ("mask", True)])
def test_coco_numbers_are_those_of_pycocotools_on_the_same_file(tmp_path, shape, with_masks):
    samples, predictions = random_pairs(5, masks=True)
    path, _ = write_file(tmp_path, samples)
    dataset = DetectionDataset(tmp_path, path, with_masks=with_masks, test_mode=True)
    results = tmp_path / "results.json"
    ours = evaluated(dataset, CocoAveragePrecision(masks=shape == "mask", results_file=str(results)), predictions)
    with contextlib.redirect_stdout(io.StringIO()):
        labels = COCO(path)
        evaluator = COCOeval(labels, _loaded(labels, json.loads(results.read_text()), shape), KINDS[shape])
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    expected = {f"coco_{shape}_{name}": 100 * evaluator.stats[place] for name, place in MEANS.items()}
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert len(set(expected.values())) == 6 and min(expected.values()) > 1


def _loaded(labels: COCO, results: list[dict], shape: str) -> COCO:
    """pycocotools takes the box of a result for its area where there is one, which is not that of its mask."""
    if shape == "mask":
        results = [{key: value for key, value in result.items() if key != "bbox"} for result in results]
    return labels.loadRes(results)


def test_lvis_numbers_are_those_of_its_rules_one_detection_at_a_time(tmp_path):
    samples, predictions = random_pairs(6, federated=True)
    path, areas = write_file(tmp_path, samples, federated=True)
    dataset = DetectionDataset(tmp_path, path, test_mode=True)
    ours = evaluated(dataset, LvisAveragePrecision(fixed=False), predictions)
    tables = tables_of(samples, predictions)
    by_rules = slow_federated_ap(
        replace(tables, labels=replace(tables.labels, areas=_in_order(tables, areas))), len(NAMES)
    )
    for place, name in enumerate(("AP", "AP_small", "AP_medium", "AP_large")):
        assert ours[f"lvis_box_{name}"] == pytest.approx(100 * np.nanmean(by_rules[place].mean(0)), abs=1e-9)
    by_boxes = slow_federated_ap(tables, len(NAMES))
    assert abs(np.nanmean(by_boxes[1]) - np.nanmean(by_rules[1])) > 0.01


def _in_order(tables, areas):
    """Areas of the file, whose objects are in the order of the images' numbers, as the tables have the images."""
    numbers = np.array([int(name) for name in tables.sample_ids])
    counts = np.bincount(tables.labels.images, minlength=len(numbers))
    by_number = np.split(areas, np.cumsum(counts[np.argsort(numbers)])[:-1])
    return np.concatenate([by_number[number] for number in numbers])


def test_an_object_is_as_large_as_the_file_says(tmp_path):
    """One object of 20 x 20 pixels that the file calls medium: a perfect detection is found among the medium ones."""
    samples, predictions = random_pairs(0, images=1, detections=1, federated=True)
    path, _ = write_file(tmp_path, samples, federated=True)
    content = json.loads(path.read_text())
    content["annotations"] = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20]}]
    for area, home, other in ((2000.0, "medium", "small"), (None, "small", "medium"), (False, "small", "medium")):
        content["annotations"][0]["area"] = area
        path.write_text(json.dumps(content))
        dataset = DetectionDataset(tmp_path, path, test_mode=True)
        perfect = replace(
            predictions[0],
            boxes=dataset[0]["sample"].instances.boxes,
            classes=dataset[0]["sample"].instances.classes,
            scores=predictions[0].scores[:1],
        )
        for metric, word in ((CocoAveragePrecision(), "coco"), (LvisAveragePrecision(fixed=False), "lvis")):
            found = evaluated(dataset, metric, [perfect])
            assert found[f"{word}_box_AP_{home}"] == pytest.approx(100), (word, area)
            assert np.isnan(found[f"{word}_box_AP_{other}"]), (word, area)


def test_impossible_areas_are_measured_and_said(tmp_path, logged):
    samples, _ = random_pairs(0, images=4)
    path, areas = write_file(tmp_path, samples)
    content = json.loads(path.read_text())
    for annotation, area in zip(content["annotations"], (-1, float("inf"), float("nan"), 0)):
        annotation["area"] = area
    path.write_text(json.dumps(content))
    table = DetectionDataset(tmp_path, path).table
    assert np.isnan(table.areas[:3]).all() and table.areas[3] == 0 and (table.areas[4:] == areas[4:]).all()
    assert "2 areas that are negative or infinite are ignored, they are measured" in logged[0].getMessage()
    content["annotations"][0]["area"] = "big"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"labels\.json: annotation 0 .* area: expected a number, got 'big'"):
        len(DetectionDataset(tmp_path, path))
