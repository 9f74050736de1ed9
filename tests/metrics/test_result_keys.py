"""What a metric declares that it returns is what it returns, so that a run can be refused before its first step."""

import numpy as np
import pytest
import torch
from detection_samples import make_prediction, make_sample

from openvocab.evaluation import NoMetric, SharedClassesIoU
from openvocab.metrics import EpisodeIoU, MeanIoU, RetrievalRecall, ZeroShotAccuracy
from openvocab.metrics.base import units_of
from openvocab.metrics.detection import CocoAveragePrecision, LvisAveragePrecision, PhraseRecall, ReferringAccuracy
from openvocab.registry import METRICS
from openvocab.structures import ClassificationPrediction, FederatedLabels, Sample, SemanticPrediction
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

VOCABULARIES = {
    "plain": Vocabulary.from_names(["other", "cat"]),
    "seen flags": Vocabulary.from_names(["other", "cat"], unseen=["cat"]),
    "background": Vocabulary.from_names(["other", "cat"], background="other"),
    "both": Vocabulary.from_names(["other", "cat"], unseen=["cat"], background="other"),
}


def of_label_maps(metric, vocabulary):
    labels = np.array([[0, 1], [1, 1]], np.uint8)
    sample = Sample("a", vocabulary, (2, 2), (2, 2), label_map=torch.from_numpy(labels))
    return sample, SemanticPrediction(labels, vocabulary)


def of_classes(metric, vocabulary):
    sample = Sample("a", vocabulary, (2, 2), (2, 2), class_ids=(1,))
    return sample, ClassificationPrediction(torch.tensor([0.0, 1.0]), vocabulary, "a")


def of_objects(metric, vocabulary):
    masks = "mask" in metric.shapes
    federated = FederatedLabels((1,), ()) if isinstance(metric, LvisAveragePrecision) else None
    sample = make_sample("a", [[0, 0, 20, 20]], [0], masks=masks, federated=federated, vocabulary=vocabulary)
    return sample, make_prediction("a", [[0, 0, 20, 20]], [0], [0.5], masks=masks, vocabulary=vocabulary)


def of_phrases(metric, vocabulary):
    sample = make_sample("a", [[0, 0, 20, 20]], [0], vocabulary=vocabulary)
    sample.prompt = Prompt("other. cat", (((0, 5),), ((7, 10),)), (0, 1))
    return sample, make_prediction("a", [[0, 0, 20, 20]], [0], [0.5], vocabulary=vocabulary)


CASES = [
    (MeanIoU, {}, of_label_maps),
    (SharedClassesIoU, {"shared": [0, 1]}, of_label_maps),
    (EpisodeIoU, {}, of_label_maps),
    (NoMetric, {}, of_label_maps),
    (ZeroShotAccuracy, {}, of_classes),
    (RetrievalRecall, {}, of_classes),
    (RetrievalRecall, {"ks": (2, 3)}, of_classes),
    (CocoAveragePrecision, {}, of_objects),
    (CocoAveragePrecision, {"masks": True}, of_objects),
    (LvisAveragePrecision, {}, of_objects),
    (LvisAveragePrecision, {"fixed": False}, of_objects),
    (LvisAveragePrecision, {"masks": True, "frequencies": "rf"}, of_objects),
    (PhraseRecall, {}, of_phrases),
    (PhraseRecall, {"ks": (2,), "boxes": "merged"}, of_phrases),
    (ReferringAccuracy, {}, of_phrases),
]


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@pytest.mark.parametrize(("kind", "options", "make"), CASES, ids=lambda case: getattr(case, "__name__", None))
def test_declared_is_returned(kind, options, make, vocabulary):
    metric = kind(**options)
    sample, prediction = make(metric, vocabulary)
    metric.process({"sample": [sample]}, [prediction])
    returned = metric.evaluate(1)
    declared = metric.result_keys(vocabulary)
    assert set(declared) == set(returned) and len(declared) == len(returned)
    assert set(declared) <= set(metric.result_keys(None))
    assert units_of([metric], vocabulary) == dict.fromkeys(returned, "%")
    assert all(isinstance(value, float) for value in returned.values())


def test_frequencies_of_the_data_are_declared_too():
    metric = LvisAveragePrecision()
    metric.dataset_meta = {"frequencies": "rf"}
    assert {"lvis_box_AP_r", "lvis_box_fixed_AP_f"} <= set(metric.result_keys(None))


def test_types_of_phrases_are_declared_too():
    metric = PhraseRecall(ks=(1,))
    metric.dataset_meta = {"phrase_types": ["people"]}
    assert set(metric.result_keys(None)) == {
        f"separate_phrase_R@{k}{suffix}" for k in (1, "all") for suffix in ("", "_people")
    }


def test_every_metric_of_the_package_is_among_the_cases():
    METRICS.import_from_location()
    ours = {kind for kind in METRICS.module_dict.values() if kind.__module__.startswith("openvocab.")}
    assert ours == {kind for kind, *_ in CASES}
