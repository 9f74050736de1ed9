"""Recall of phrases and accuracy of referring expressions, against loops over single boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from openvocab.metrics.detection import PhraseRecall, ReferringAccuracy
from openvocab.structures import DetectionPrediction, Instances, Sample
from openvocab.vocabulary.prompt import Prompt

SIZE = (100, 100)
TYPES = ("people", "clothing", "scene")


def sample_of(name, phrases, boxes, classes, types=(), crowd=None):
    text = " ".join(f"word{number}" for number in range(phrases))
    spans, begin = [], 0
    for number in range(phrases):
        end = begin + len(f"word{number}")
        spans.append([(begin, end)])
        begin = end + 1
    prompt = Prompt.of_caption(text, spans)
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    is_crowd = None if crowd is None else torch.tensor(crowd)
    instances = Instances(boxes, torch.tensor(classes, dtype=torch.int64), is_crowd=is_crowd)
    return Sample(name, prompt.vocabulary, SIZE, SIZE, instances=instances, prompt=prompt, phrase_types=types)


def prediction_of(sample, boxes, classes, scores):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    classes, scores = torch.tensor(classes, dtype=torch.int64), torch.tensor(scores, dtype=torch.float32)
    return DetectionPrediction(boxes, scores, classes, sample.vocabulary, sample_id=sample.sample_id)


def evaluated(metric, samples, predictions, meta=None):
    metric.dataset_meta = meta or {}
    for start in range(0, len(samples), 3):
        metric.process({"sample": samples[start : start + 3]}, predictions[start : start + 3])
    return metric.evaluate(len(samples))


def overlap(a, b):
    """IoU of two boxes by counting unit squares, for boxes of whole pixels."""
    maps = np.zeros((2, *SIZE), bool)
    for filled, (x1, y1, x2, y2) in zip(maps, (a, b)):
        filled[int(y1) : int(y2), int(x1) : int(x2)] = True
    return (maps[0] & maps[1]).sum() / (maps[0] | maps[1]).sum()


def random_pairs(seed, count=25):
    rng = np.random.default_rng(seed)

    def box():
        x, y = rng.integers(0, 70, 2)
        return [int(x), int(y), int(x + rng.integers(8, 30)), int(y + rng.integers(8, 30))]

    samples, predictions = [], []
    for number in range(count):
        phrases = int(rng.integers(1, 5))
        classes = sorted(int(c) for c in rng.integers(0, phrases, rng.integers(0, 6)))
        boxes = [box() for _ in classes]
        types = tuple(tuple(rng.choice(TYPES, rng.integers(1, 3), replace=False).tolist()) for _ in range(phrases))
        samples.append(sample_of(str(number), phrases, boxes, classes, types))
        found, owners = [], []
        for _ in range(40):
            near = boxes[rng.integers(len(boxes))] if boxes and rng.random() < 0.3 else box()
            found.append([int(v) for v in np.add(near, rng.integers(-3, 4, 4)).clip(0, 100)])
            owners.append(int(rng.integers(0, phrases)))
        predictions.append(prediction_of(samples[-1], found, owners, rng.permutation(40) / 40))
    return samples, predictions


def loop_recall(samples, predictions, k, boxes, kind=None):
    """The rule once more, one phrase at a time."""
    right = total = 0
    for sample, prediction in zip(samples, predictions):
        for phrase in range(len(sample.prompt)):
            targets = [
                b for b, c in zip(sample.instances.boxes.tolist(), sample.instances.classes.tolist()) if c == phrase
            ]
            if not targets or (kind is not None and kind not in sample.phrase_types[phrase]):
                continue
            if boxes == "merged":
                targets = [[min(b[0] for b in targets), min(b[1] for b in targets),
                            max(b[2] for b in targets), max(b[3] for b in targets)]]  # fmt: skip
            rows = zip(*(column.tolist() for column in (prediction.scores, prediction.boxes, prediction.classes)))
            own = [(score, box) for score, box, index in rows if index == phrase]
            own = [b for _, b in sorted(own, key=lambda pair: -pair[0])][:k]
            total += 1
            right += any(overlap(found, target) >= 0.5 for found in own for target in targets)
    return 100 * right / total


@pytest.mark.parametrize("boxes", ["separate", "merged"])
@pytest.mark.parametrize("seed", range(3))
def test_recalls_are_those_of_a_plain_loop(seed, boxes):
    samples, predictions = random_pairs(seed)
    metric = PhraseRecall(ks=(1, 3, 7), boxes=boxes)
    results = evaluated(metric, samples, predictions, {"phrase_types": list(TYPES)})
    for k in (1, 3, 7, None):
        name = f"{boxes}_phrase_R@{k or 'all'}"
        assert results[name] == pytest.approx(loop_recall(samples, predictions, k, boxes))
        for kind in TYPES:
            assert results[f"{name}_{kind}"] == pytest.approx(loop_recall(samples, predictions, k, boxes, kind))
    assert 5 < results[f"{boxes}_phrase_R@1"] < results[f"{boxes}_phrase_R@7"] < 100
    assert [row["class"] for row in metric.class_rows] == list(TYPES)
    assert metric.class_rows[0]["R@3"] == results[f"{boxes}_phrase_R@3_people"]


def test_a_phrase_of_two_boxes_is_found_by_either_one_or_by_the_box_around_both():
    sample = sample_of("a", 1, [[0, 0, 20, 20], [60, 60, 80, 80]], [0, 0])
    for found, separate, merged in (([60, 60, 80, 80], 100, 0), ([0, 0, 80, 80], 0, 100), ([30, 30, 50, 50], 0, 0)):
        prediction = prediction_of(sample, [found], [0], [0.5])
        assert evaluated(PhraseRecall(), [sample], [prediction])["separate_phrase_R@1"] == separate
        assert evaluated(PhraseRecall(boxes="merged"), [sample], [prediction])["merged_phrase_R@1"] == merged


def test_an_overlap_of_exactly_one_half_is_right_and_other_phrases_do_not_help():
    sample = sample_of("a", 2, [[0, 0, 20, 20]], [0])
    half = prediction_of(sample, [[0, 0, 10, 20]], [0], [0.5])
    other = prediction_of(sample, [[0, 0, 20, 20]], [1], [0.9])
    assert evaluated(PhraseRecall(), [sample], [half])["separate_phrase_R@all"] == 100
    assert evaluated(PhraseRecall(), [sample], [other])["separate_phrase_R@all"] == 0


def test_phrases_without_boxes_and_crowds_do_not_count():
    samples = [sample_of("a", 3, [[0, 0, 9, 9]], [1]), sample_of("b", 1, [[0, 0, 9, 9]], [0], crowd=[True])]
    predictions = [prediction_of(samples[0], [[0, 0, 9, 9]], [1], [0.1]), prediction_of(samples[1], [], [], [])]
    metric = PhraseRecall()
    assert evaluated(metric, samples, predictions)["separate_phrase_R@1"] == 100
    assert metric.protocol["phrases"] == 1 and metric.protocol["phrases_without_boxes"] == 3
    assert metric.protocol["captions"] == 2 and metric.protocol["boxes_of_a_phrase"] == "separate"
    assert np.isnan(evaluated(PhraseRecall(), samples[1:], predictions[1:])["separate_phrase_R@1"])


def test_detections_are_ranked_by_score_whatever_their_order():
    sample = sample_of("a", 1, [[0, 0, 20, 20]], [0])
    prediction = prediction_of(sample, [[0, 0, 20, 20], [50, 50, 60, 60]], [0, 0], [0.2, 0.8])
    results = evaluated(PhraseRecall(ks=(1, 2)), [sample], [prediction])
    assert results == {"separate_phrase_R@1": 0, "separate_phrase_R@2": 100, "separate_phrase_R@all": 100}


def test_a_caption_that_a_sampler_repeated_counts_once():
    samples, predictions = random_pairs(0, count=4)
    metric = PhraseRecall()
    once = evaluated(metric, samples, predictions)
    metric.process({"sample": [*samples, samples[0]]}, [*predictions, predictions[0]])
    assert metric.evaluate(4) == once


# ---- referring expressions ----


@pytest.mark.parametrize("seed", range(3))
def test_the_best_box_of_each_expression_is_judged(seed):
    rng = np.random.default_rng(seed)
    samples, predictions, right = [], [], 0
    for number in range(40):
        target = [20, 20, int(rng.integers(40, 60)), int(rng.integers(40, 60))]
        samples.append(sample_of(str(number), 2, [target], [0]))
        boxes = [[int(v) for v in np.add(target, rng.integers(-9, 10, 4))] for _ in range(5)]
        scores = rng.permutation(5) / 10
        predictions.append(prediction_of(samples[-1], boxes, rng.integers(0, 2, 5).tolist(), scores))
        right += overlap(boxes[int(np.argmax(scores))], target) >= 0.5
    metric = ReferringAccuracy()
    assert evaluated(metric, samples, predictions) == {"referring_accuracy@0.5": pytest.approx(100 * right / 40)}
    assert 0 < right < 40 and metric.protocol["expressions"] == 40


def test_no_detection_is_wrong_and_the_threshold_is_part_of_the_key():
    sample = sample_of("a", 1, [[0, 0, 20, 20]], [0])
    assert evaluated(ReferringAccuracy(0.75), [sample], [prediction_of(sample, [], [], [])]) == {
        "referring_accuracy@0.75": 0
    }


# ---- wrong input ----


def test_wrong_samples_and_arguments_are_named():
    sample = sample_of("a", 1, [[0, 0, 20, 20]], [0])
    plain = Sample("b", sample.vocabulary, SIZE, SIZE, instances=sample.instances)
    nothing = prediction_of(sample, [], [], [])
    for metric in (PhraseRecall(), ReferringAccuracy()):
        with pytest.raises(ValueError, match=r"prompt of sample 'b' is needed"):
            metric.process({"sample": [plain]}, [nothing])
    with pytest.raises(ValueError, match="sample 'a': a detection of phrase 4, but its prompt has phrases up to 0"):
        PhraseRecall().process({"sample": [sample]}, [prediction_of(sample, [[0, 0, 1, 1]], [4], [0.5])])
    two = sample_of("c", 1, [[0, 0, 20, 20]] * 2, [0, 0])
    with pytest.raises(ValueError, match="sample 'c': expected one object, .*got 2"):
        ReferringAccuracy().process({"sample": [two]}, [nothing])
    for wrong, message in (
        (dict(ks=()), "ks: expected"),
        (dict(boxes="all"), "boxes: expected one of separate, merged"),
        (dict(iou_threshold=0), "iou_threshold: expected a number above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            PhraseRecall(**wrong)


def test_the_upper_bound_of_shapes_is_reached_by_its_own_boxes(tmp_path):
    """End to end: the labels of a grounding file as predictions, with a table of seen and unseen pairs."""
    from openvocab.datasets import GroundingDataset
    from openvocab.datasets.shapes.writing import write_shapes

    write_shapes(tmp_path / "shapes", num_train=2, num_val=12, objects_per_class=0, processes=1)
    dataset = GroundingDataset("images/val", "grounding_v1_val.jsonl", root=tmp_path / "shapes", test_mode=True)
    samples = [dataset[index]["sample"] for index in range(len(dataset))]
    predictions = [
        DetectionPrediction(s.instances.boxes, torch.ones(len(s.instances.boxes)), s.instances.classes, s.vocabulary)
        for s in samples
    ]
    metric = PhraseRecall()
    results = evaluated(metric, samples, predictions, dataset.metainfo)
    assert results["separate_phrase_R@1"] == results["separate_phrase_R@1_unseen"] == 100
    assert [row["class"] for row in metric.class_rows] == ["seen", "unseen"]
    lines = Path(tmp_path / "shapes/grounding_v1_val.jsonl").read_text().splitlines()
    regions = [region for line in lines for region in json.loads(line)["grounding"]["regions"]]
    assert sum(row["phrases"] for row in metric.class_rows) == metric.protocol["phrases"] == len(regions)
