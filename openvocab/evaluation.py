"""Evaluation over class names other than those of the data, and result files."""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor
from torch.utils.data import Dataset

from openvocab.datasets.contracts import StatesFacts, vocabulary_of
from openvocab.files.atomic_files import replacing
from openvocab.metrics.base import Metric
from openvocab.metrics.confusion import ClassScores
from openvocab.metrics.mean_iou import MeanIoU, score_rows, summarize
from openvocab.metrics.protocol import note_absent
from openvocab.registry import DATASETS, METRICS
from openvocab.structures import ignore_index
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names, same_name_key


@DATASETS.register_module()
class OtherVocabulary(Dataset):
    """A dataset with its vocabulary replaced by other class names; labels of classes not among them are ignored.

    Args:
        dataset: a dataset, or its config, with a `vocabulary`; the `sample` of an item may have no `label_map`.
        names_file: one class per line (`read_class_names`).

    Raises:
        ValueError: the dataset has no vocabulary.
    """

    def __init__(self, dataset: Any, names_file: str) -> None:
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        source = vocabulary_of(self.dataset)
        if source is None:
            raise ValueError(f"{type(self.dataset).__name__} has no vocabulary that other names could replace")
        self.vocabulary, self.new_class = match_names(source, read_class_names(names_file))
        fill = ignore_index(len(self.vocabulary))
        dtype = torch.uint8 if fill <= torch.iinfo(torch.uint8).max else torch.int32
        self._table = torch.full((2**16,), fill, dtype=dtype)
        self._table[: len(source)] = torch.tensor([fill if new is None else new for new in self.new_class], dtype=dtype)

    @property
    def metainfo(self) -> dict[str, Any]:
        """The `metainfo` of the wrapped dataset."""
        return dict(self.dataset.metainfo) if isinstance(self.dataset, StatesFacts) else {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = self.dataset[index]
        sample = item["sample"]
        label_map = None if sample.label_map is None else self._relabel(sample.label_map)
        return {**item, "sample": dataclasses.replace(sample, vocabulary=self.vocabulary, label_map=label_map)}

    def _relabel(self, label_map: Tensor) -> Tensor:
        """Return a label map (H, W) of the new vocabulary."""
        return self._table[label_map.long()]


@METRICS.register_module()
class SharedClassesIoU(MeanIoU):
    """`MeanIoU` over the classes that data and prediction share by name.

    Pixels that are predicted as one of the other classes count as errors of the shared ones.

    Args:
        shared: indices of the shared classes in the vocabulary of the prediction.
    """

    def __init__(self, shared: Sequence[int]) -> None:
        super().__init__(show_classes=False)
        self.shared = list(shared)

    def compute_metrics(self, results: list[tuple[Vocabulary, np.ndarray]]) -> dict[str, float]:
        """Return the metrics; `results` is a list of one pair, a vocabulary and its confusion matrix (K, K)."""
        ((vocabulary, matrix),) = results
        scores = ClassScores(matrix)
        not_shared = np.setdiff1d(np.arange(len(vocabulary)), self.shared)
        scores.iou[not_shared] = np.nan  # means skip NaN
        rows = score_rows(vocabulary, scores)
        self.class_rows = [rows[index] for index in self.shared]
        names = [row["class"] for row in self.class_rows]
        self.protocol["evaluated_classes"] = names
        self.protocol["classes_without_labels"] = note_absent(
            "mean IoU", "labeled pixel", names, scores.labeled[self.shared]
        )
        return summarize(vocabulary, scores)


@METRICS.register_module()
class NoMetric(Metric):
    """A metric without results, for predictions that are only drawn."""

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return no key."""
        return []

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Ignore the predictions of a batch."""
        self.results += [None] * len(data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Return no results."""
        return {}


def match_names(source: Vocabulary, names: Sequence[Sequence[str]]) -> tuple[Vocabulary, list[int | None]]:
    """Match the classes of a dataset with other names, by any synonym (`same_name_key`).

    Args:
        source: K classes of a dataset.
        names: the synonyms of each new class.

    Returns:
        The vocabulary of `names`, with the seen flags and the background of the matching classes; and for each class of
        `source` its index there, None without a match.
    """
    position = {same_name_key(name): index for index, entry in enumerate(names) for name in entry}
    matches = [
        next((position[key] for key in map(same_name_key, entry) if key in position), None) for entry in source.synonyms
    ]
    seen = None
    if source.seen is not None:
        flags = dict(zip(matches, source.seen))
        seen = tuple(flags.get(index, True) for index in range(len(names)))
    background = None if source.background is None else matches[source.background]
    return Vocabulary(tuple(map(tuple, names)), seen, background, source.synonym_merge), matches


def use_class_names(config: Config, names_file: str, *, pictures: bool) -> str:
    """Change a test config so that it predicts the names of a file, and evaluates those that are classes of the data.

    Args:
        config: changed in place.
        names_file: one class per line.
        pictures: whether predictions are drawn, so that a shared class is not required.

    Returns:
        A line for the log that states what is predicted and evaluated.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no name is shared with the data, or the config does not evaluate label maps.
    """
    dataset = OtherVocabulary(config.test_dataloader.dataset, names_file)
    shared = sorted({index for index in dataset.new_class if index is not None})
    missed = [name for name, new in zip(dataset.dataset.vocabulary.class_names, dataset.new_class) if new is None]
    evaluators = config.test_evaluator if isinstance(config.test_evaluator, (list, tuple)) else [config.test_evaluator]
    kinds = [METRICS.get(e["type"]) if isinstance(e["type"], str) else e["type"] for e in evaluators]
    if not any(issubclass(kind, MeanIoU) for kind in kinds):
        raise ValueError("--classes-file is for models that predict label maps, evaluated by MeanIoU")
    if not shared and not pictures:
        raise ValueError(
            f"{names_file}: none of its {len(dataset.vocabulary)} names is a class of the data "
            f"({', '.join(missed[:8])}, ...); nothing could be evaluated; to see the predictions, give --show-dir"
        )
    config.test_dataloader.dataset = dict(
        type="OtherVocabulary", dataset=config.test_dataloader.dataset, names_file=str(names_file)
    )
    config.test_evaluator = dict(type="SharedClassesIoU", shared=shared) if shared else dict(type="NoMetric")
    return (
        f"predicting {len(dataset.vocabulary)} names of {names_file}; {len(shared)} of them are classes of the data "
        f"and are evaluated; the labels of the other {len(missed)} classes of the data are ignored"
    )


def write_results(
    path: str | Path,
    metrics: Mapping[str, float],
    protocol: Mapping[str, Any],
    class_rows: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write metrics and their protocol as JSON, whole or not at all; NaN becomes null.

    Args:
        path: path of the file; its folder is created.
        metrics: flat numbers.
        protocol: a description of the data; with the `units` of metrics and columns, {"mIoU": "%"}: percentages are in
            0..100.
        class_rows: scores of single classes, the list `per_class` of the file; see `Metric.class_rows`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {key: _json_number(float(value)) for key, value in metrics.items()}
    if class_rows:
        content["per_class"] = [{key: _json_number(value) for key, value in row.items()} for row in class_rows]
    with replacing(path) as file:
        file.write(json.dumps({**content, "protocol": dict(protocol)}, indent=2, ensure_ascii=False) + "\n")


def _json_number(value: Any) -> Any:
    """Return None for NaN, which JSON does not have, and any other value unchanged."""
    return None if isinstance(value, float) and math.isnan(value) else value
