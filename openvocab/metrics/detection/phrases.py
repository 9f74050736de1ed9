"""Whether the boxes that are found for phrases match the labels: Flickr30k's recall and RefCOCO's accuracy."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision.ops import box_iou

from openvocab.argument_checks import check_choice, check_number
from openvocab.metrics.base import Metric
from openvocab.registry import METRICS
from openvocab.structures import DetectionPrediction, Instances, Sample, known
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

BoxMode = Literal["separate", "merged"]


@dataclass(frozen=True)
class PhraseRank:
    """What was found for one phrase that has boxes."""

    types: tuple[str, ...]
    """Kinds of the phrase."""
    rank: int | None
    """Number of its detections before the first right one; None if none is right."""


@dataclass(frozen=True)
class CaptionRanks:
    """The phrases of one caption."""

    ranks: tuple[PhraseRank, ...]
    without_boxes: int
    """Phrases of the caption that have no boxes; they do not count."""


@METRICS.register_module()
class PhraseRecall(Metric):
    """Recall at k in percent of the phrases of captions, as on Flickr30k Entities.

    A phrase is found at k if one of its k best detections has an IoU of at least `iou_threshold` with

    - `boxes="separate"` any one of the phrase's boxes ("any box"; keys `separate_phrase_R@1`, ...): GLIP's protocol;
    - `boxes="merged"` the smallest box around all of them (`merged_phrase_R@1`, ...).

    `..._R@all` is over all detections of a phrase, an upper bound. Phrases without boxes do not count, nor do crowds. A
    sample needs a `prompt`, and its prediction's classes are the prompt's. If the dataset states types of phrases, each
    key also exists with `_TYPE` at its end, and `class_rows` is the table of types; a phrase of two types is in both.
    Images that a sampler repeated count once.

    Args:
        ks: the values of k.
        boxes: see above.
        iou_threshold: smallest IoU of a right detection.

    Raises:
        ValueError: an unknown choice, or a number out of range.

    Reference: arXiv 1505.04870; both rules are those of MDETR's evaluator (arXiv 2104.12763), which GLIP uses.
    """

    def __init__(self, ks: Sequence[int] = (1, 5, 10), boxes: BoxMode = "separate", iou_threshold: float = 0.5) -> None:
        super().__init__()
        if not ks or min(ks) < 1:
            raise ValueError(f"ks: expected numbers from 1, got {ks}")
        check_choice("boxes", boxes, get_args(BoxMode))
        self.ks, self.boxes, self.iou_threshold = tuple(ks), boxes, _threshold(iou_threshold)

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results; those of types follow from the dataset."""
        return [key + suffix for suffix in ("", *self._suffixes.values()) for key in self._keys]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[DetectionPrediction]) -> None:
        """Rank the detections of a batch.

        Args:
            data_batch: batch of the loader; `data_batch["sample"]` holds samples with prompt and instances, in the
                original frame.
            data_samples: predictions, in the same order.

        Raises:
            ValueError: a sample without prompt or instances, or a prediction of other phrases.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            self.results.append(self._ranks(sample, prediction))

    def compute_metrics(self, results: list[CaptionRanks]) -> dict[str, float]:
        """Return the recalls in percent; NaN without a phrase that has boxes."""
        phrases = [phrase for caption in results for phrase in caption.ranks]
        types = [*self._suffixes, *sorted({kind for phrase in phrases for kind in phrase.types} - {*self._suffixes})]
        of_type = {kind: [phrase for phrase in phrases if kind in phrase.types] for kind in types}
        self.class_rows = [
            {"class": kind, **_recalls(own, self.ks), "phrases": len(own)} for kind, own in of_type.items()
        ]
        self.protocol = {
            "dataset": (self.dataset_meta or {}).get("dataset"),
            "captions": len(results),
            "phrases": len(phrases),
            "phrases_without_boxes": sum(caption.without_boxes for caption in results),
            "boxes_of_a_phrase": self.boxes,
            "iou_threshold": self.iou_threshold,
        }
        metrics = dict(zip(self._keys, _recalls(phrases, self.ks).values()))
        for kind, suffix in self._suffixes.items():
            metrics |= dict(zip((key + suffix for key in self._keys), _recalls(of_type[kind], self.ks).values()))
        return metrics

    @property
    def _keys(self) -> list[str]:
        return [f"{self.boxes}_phrase_R@{k}" for k in (*self.ks, "all")]

    @property
    def _suffixes(self) -> dict[str, str]:
        """The end of the keys of each type that the dataset states."""
        return {kind: f"_{kind}" for kind in (self.dataset_meta or {}).get("phrase_types", ())}

    def _ranks(self, sample: Sample, prediction: DetectionPrediction) -> CaptionRanks:
        prompt, instances = _labels_of(sample, "PhraseRecall")
        classes = sorted({*prompt.owners})
        if len(prediction.classes) and int(prediction.classes.max()) > classes[-1]:
            raise ValueError(
                f"sample {sample.sample_id!r}: a detection of phrase {int(prediction.classes.max())}, but its prompt "
                f"has phrases up to {classes[-1]}; was it predicted with its own prompt?"
            )
        targets = {index: instances.boxes[instances.classes == index] for index in classes}
        ranks = tuple(
            PhraseRank(_types_of(sample, prompt, index), self._rank(prediction, index, boxes))
            for index, boxes in targets.items()
            if len(boxes)
        )
        return CaptionRanks(ranks, len(classes) - len(ranks))

    def _rank(self, prediction: DetectionPrediction, index: int, boxes: Tensor) -> int | None:
        """Return the rank of the first right detection of a phrase with boxes (N, 4)."""
        if self.boxes == "merged":
            boxes = torch.cat([boxes[:, :2].amin(0), boxes[:, 2:].amax(0)])[None]  # (1, 4)
        own = prediction.classes == index
        order = prediction.scores[own].argsort(descending=True, stable=True)
        overlaps = box_iou(prediction.boxes[own][order], boxes.to(prediction.boxes))  # (detections, N)
        hits = (overlaps >= self.iou_threshold).any(1).nonzero()
        return int(hits[0]) if len(hits) else None


@METRICS.register_module()
class ReferringAccuracy(Metric):
    """How often the best detection for a referring expression is the object, in percent, as on RefCOCO.

    Of all detections for the expression, whichever of its phrases they belong to, the one with the highest score must
    have an IoU of at least `iou_threshold` with the object. An expression without a detection is wrong. (MDETR's
    evaluator compares by generalized IoU, which is stricter.) Images that a sampler repeated count once.

    Args:
        iou_threshold: smallest IoU of a right detection; it is part of the key, `referring_accuracy@0.5`.

    Raises:
        ValueError: a threshold out of range.

    Reference: arXiv 1608.00272.
    """

    def __init__(self, iou_threshold: float = 0.5) -> None:
        super().__init__()
        self.iou_threshold = _threshold(iou_threshold)

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the key of the result, which is the same for any vocabulary."""
        return [f"referring_accuracy@{self.iou_threshold:g}"]

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[DetectionPrediction]) -> None:
        """Judge the best detection of each sample of a batch; see `PhraseRecall.process`.

        Raises:
            ValueError: a sample without prompt, or with another number of objects than one.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            _, instances = _labels_of(sample, "ReferringAccuracy")
            if len(instances.boxes) != 1:
                raise ValueError(
                    f"sample {sample.sample_id!r}: expected one object, which the expression refers to, got "
                    f"{len(instances.boxes)}; PhraseRecall is for phrases with any number of boxes"
                )
            self.results.append(self._finds_object(prediction, instances.boxes))

    def compute_metrics(self, results: list[bool]) -> dict[str, float]:
        """Return the accuracy in percent; NaN without a sample."""
        self.protocol = {
            "dataset": (self.dataset_meta or {}).get("dataset"),
            "expressions": len(results),
            "iou_threshold": self.iou_threshold,
        }
        (key,) = self.result_keys(None)
        return {key: 100 * sum(results) / len(results) if results else float("nan")}

    def _finds_object(self, prediction: DetectionPrediction, box: Tensor) -> bool:
        """Return whether the best detection is the object with box (1, 4)."""
        if not len(prediction.scores):
            return False
        best = prediction.boxes[prediction.scores.argmax()][None]  # (1, 4)
        return float(box_iou(best, box.to(best))) >= self.iou_threshold


def _labels_of(sample: Sample, metric: str) -> tuple[Prompt, Instances]:
    """Return the prompt of a sample, and its objects without crowds."""
    prompt = known(sample.prompt, f"{metric}: prompt of sample {sample.sample_id!r}")
    instances = known(sample.instances, f"{metric}: instances of sample {sample.sample_id!r}")
    if instances.is_crowd is None:
        return prompt, instances
    kept = ~instances.is_crowd
    return prompt, Instances(instances.boxes[kept], instances.classes[kept])


def _types_of(sample: Sample, prompt: Prompt, index: int) -> tuple[str, ...]:
    """Return the types of the phrases of class `index`."""
    if not sample.phrase_types:
        return ()
    own = (kinds for owner, kinds in zip(prompt.owners, sample.phrase_types, strict=True) if owner == index)
    return tuple(dict.fromkeys(kind for kinds in own for kind in kinds))


def _recalls(phrases: Iterable[PhraseRank], ks: Sequence[int]) -> dict[str, float]:
    """Return R@k for each k, and R@all, in percent."""
    ranks = [phrase.rank for phrase in phrases]
    found = {f"R@{k}": sum(rank is not None and rank < k for rank in ranks) for k in ks}
    found["R@all"] = sum(rank is not None for rank in ranks)
    return {key: 100 * count / len(ranks) if ranks else float("nan") for key, count in found.items()}


def _threshold(value: float) -> float:
    check_number("iou_threshold", value)
    if not 0 < value <= 1:
        raise ValueError(f"iou_threshold: expected a number above 0, at most 1, got {value}")
    return float(value)
