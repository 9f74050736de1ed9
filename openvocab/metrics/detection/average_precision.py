"""Average precision of detected boxes and masks: COCO's, open-vocabulary COCO's, LVIS's and LVIS's fixed one.

The keys of each protocol start with its own prefix, so that numbers of different protocols cannot be confused:

- `coco_box_AP`, `coco_mask_AP50`, ...: COCO's rules;
- `ovd_box_AP50_base`, `ovd_box_AP50_novel`, `ovd_box_AP50_all`: COCO's rules at an IoU of 0.5, over the classes with
  labels in training, over those without, and over both;
- `lvis_box_AP`, `lvis_mask_AP_r`, ...: LVIS's rules, 300 detections per image;
- `lvis_box_fixed_AP`, `lvis_mask_fixed_AP_r`, ...: fixed AP, 10,000 detections per class over the whole dataset.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import all_gather_object

from openvocab.metrics.base import Metric
from openvocab.metrics.class_table import class_role, class_table
from openvocab.metrics.detection.class_precision import MEANS, RECALLS, ClassPrecision, Shape
from openvocab.metrics.detection.coco import DETECTIONS, coco_average_precision
from openvocab.metrics.detection.exchange import gather_tables, on_first_rank, write_coco_results
from openvocab.metrics.detection.lvis import federated_average_precision
from openvocab.metrics.detection.rows import image_tables
from openvocab.metrics.detection.tables import DetectionTables
from openvocab.metrics.precision_recall import summarize_curves
from openvocab.metrics.protocol import class_protocol, note_absent
from openvocab.registry import METRICS
from openvocab.structures import DetectionPrediction, Sample, known
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

LVIS_PER_IMAGE = 300
FIXED_PER_CLASS = 10_000
FREQUENCIES = {"r": "rare", "c": "common", "f": "frequent"}


class AveragePrecision(Metric):
    """Base class of the metrics below: collects the tables of all images, on all ranks.

    An image that a sampler repeated counts once. The ranks hand their tables to the first one as files; it computes the
    results and broadcasts them. After an evaluation, `protocol` describes the data; `class_rows` holds AP and AP50 of
    each class, NaN for a class without objects, with the number of its objects without crowds and its role.

    Args:
        masks: whether masks are evaluated too.
        results_file: file for all detections as COCO results JSON, for other tools; needs `category_ids` (K ids of the
            annotation file) in the dataset's `metainfo`.
        shard_folder: folder for exchanging the results of each rank, on a disk that all machines share. Default: the
            system's temporary folder, or the work dir under our runner.
        show_classes: log a table with the scores of every class.
    """

    def __init__(
        self,
        masks: bool = False,
        results_file: str | None = None,
        shard_folder: str | None = None,
        show_classes: bool = True,
    ) -> None:
        super().__init__()
        self.show_classes = show_classes
        self.shapes: tuple[Shape, ...] = ("box", "mask") if masks else ("box",)
        self.results_file, self.shard_folder = results_file, shard_folder
        self._vocabulary: Vocabulary | None = None

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[DetectionPrediction]) -> None:
        """Store the labels and detections of a batch.

        Args:
            data_batch: batch of the loader; `data_batch["sample"]` holds the samples with instances in the original
                frame.
            data_samples: predictions, in the same order.

        Raises:
            ValueError: a sample or prediction that cannot be evaluated (see `image_tables`), or another vocabulary than
                before.
        """
        for sample, prediction in zip(data_batch["sample"], data_samples, strict=True):
            if self._vocabulary is None:
                self._vocabulary = sample.vocabulary
                self.check_data(sample)
            if sample.vocabulary is not self._vocabulary and sample.vocabulary != self._vocabulary:
                raise ValueError(f"sample {sample.sample_id!r} has another vocabulary than the first one")
            self.results.append(self.tables_of(sample, prediction))

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the metrics in percent over all ranks, and reset the tables.

        Args:
            size: number of images in the dataset.

        Raises:
            ValueError: no image was processed.
            OSError: a rank could not hand over its detections.
        """
        rank_tables: list[DetectionTables] = self.results
        self.results: list[DetectionTables] = []
        vocabularies = [vocabulary for vocabulary in all_gather_object(self._vocabulary) if vocabulary is not None]
        self._vocabulary = vocabularies[0] if vocabularies else None  # a rank may have no image
        tables = gather_tables(rank_tables, self.shard_folder)
        metrics, self.protocol, self.class_rows = on_first_rank(
            lambda: self._evaluate(known(tables, "tables of the first rank"), size)
        )
        self._vocabulary = None
        return metrics

    def _evaluate(
        self, tables: DetectionTables, size: int
    ) -> tuple[dict[str, float], dict[str, Any], list[dict[str, Any]]]:
        """Return the metrics, the protocol and the rows of the classes, on the first rank."""
        count = len(tables.sample_ids)
        if count != size:
            logger.warning(f"average precision over {count} images of {size}")
        if self.results_file is not None:
            write_coco_results(self.results_file, tables, (self.dataset_meta or {})["category_ids"])
        metrics = self.compute_metrics([tables])
        protocol = {**class_protocol(self.dataset_meta, self.vocabulary, count), **self.rules()}
        objects = [row["objects"] for row in self.class_rows]
        protocol["classes_without_objects"] = note_absent(
            "average precision", "object", self.vocabulary.class_names, objects
        )
        return metrics, protocol, self.class_rows

    def compute_metrics(self, results: list[DetectionTables]) -> dict[str, float]:
        """Return the metrics in percent of the tables of all images, in a list of one."""
        (tables,) = results
        precisions = self.class_precisions(tables)
        self.class_rows = class_rows(precisions, tables, self.vocabulary, self.further_columns())
        self.curves = [
            summarize_curves(f"{name} at an IoU of 0.5", RECALLS, precision.curves, self.vocabulary)
            for name, precision in precisions.items()
        ]
        if self.show_classes:
            logger.info("\n" + class_table(self.class_rows))
        return {name: 100 * value for name, value in self.means(precisions).items()}

    def class_precisions(self, tables: DetectionTables) -> dict[str, ClassPrecision]:
        """Return the precision of every class in each evaluation, by the prefix of its keys: `coco_box`."""
        raise NotImplementedError

    def means(self, precisions: dict[str, ClassPrecision]) -> dict[str, float]:
        """Return the flat metrics, 0..1, of all evaluations."""
        raise NotImplementedError

    @property
    def vocabulary(self) -> Vocabulary:
        """Of the processed samples; K classes.

        Raises:
            ValueError: no sample was processed.
        """
        return known(self._vocabulary, "vocabulary of the evaluated samples")

    def further_columns(self) -> dict[str, Sequence[Any]]:
        """Return further columns of `class_rows`, with K entries each."""
        return {}

    def check_data(self, sample: Sample) -> None:
        """Check at the first sample what would otherwise fail at the end of the evaluation.

        Raises:
            ValueError: the dataset does not state what the metric needs.
        """
        if self.results_file is None:
            return
        ids = (self.dataset_meta or {}).get("category_ids", ())
        num_classes = len(known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}"))
        if len(ids) != num_classes or None in ids:
            raise ValueError(
                "results_file needs the dataset's metainfo['category_ids'], the classes' ids in the annotation file: "
                f"expected {num_classes}, got {len(ids)}, {list(ids).count(None)} of them unknown"
            )

    def tables_of(self, sample: Sample, prediction: DetectionPrediction) -> DetectionTables:
        """Return the tables of one image."""
        return image_tables(sample, prediction, masks="mask" in self.shapes)

    def rules(self) -> dict[str, Any]:
        """Return the entries of the protocol that describe the rules of the metric."""
        raise NotImplementedError


@METRICS.register_module()
class CocoAveragePrecision(AveragePrecision):
    """COCO's AP in percent, and AP50 of base and novel classes if the vocabulary has seen flags.

    `coco_box_AP` is the mean over IoU thresholds from 0.5 to 0.95, `coco_box_AP50` and `coco_box_AP75` are at one of
    them; `_small`, `_medium` and `_large` are of objects below 32 x 32, below 96 x 96 and above, by the area that the
    annotation file states, as in pycocotools; if it states none, by the area of the mask or, in data with boxes
    only, of the box. With masks, `coco_mask_...` is the same for them. A mean is over the classes that have objects,
    NaN without any; the protocol and a warning name the others. Only the best 100 detections per class and image count;
    crowd regions are ignored.
    """

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results over a vocabulary, or all possible keys for None, an unknown vocabulary."""
        groups = ("base", "novel", "all") if vocabulary is None or vocabulary.seen is not None else ()
        return [
            key
            for shape in self.shapes
            for key in [*(f"coco_{shape}_{mean}" for mean in MEANS), *(f"ovd_{shape}_AP50_{name}" for name in groups)]
        ]

    def class_precisions(self, tables: DetectionTables) -> dict[str, ClassPrecision]:
        """Return `coco_box` and, with masks, `coco_mask`."""
        num_classes = len(self.vocabulary)
        return {f"coco_{shape}": coco_average_precision(tables, num_classes, shape).precision for shape in self.shapes}

    def means(self, precisions: dict[str, ClassPrecision]) -> dict[str, float]:
        """Return the flat metrics, 0..1."""
        metrics: dict[str, float] = {}
        for shape in self.shapes:
            precision = precisions[f"coco_{shape}"]
            metrics |= {f"coco_{shape}_{key}": value for key, value in precision.six_means().items()}
            metrics |= open_vocabulary_means(precision, self.vocabulary, shape)
        return metrics

    def rules(self) -> dict[str, Any]:
        """Return the entries of the protocol that describe the rules of the metric."""
        return {"average_precision": f"COCO, the best {DETECTIONS[-1]} detections of each class in each image"}


@METRICS.register_module()
class LvisAveragePrecision(AveragePrecision):
    """LVIS's AP in percent, standard and fixed, for federated data.

    - `lvis_box_AP`, `_AP50`, `_AP75`, `_AP_small`, `_AP_medium`, `_AP_large`: of the best 300 detections per image,
      with areas as in `CocoAveragePrecision`; `_AP_r`, `_AP_c`, `_AP_f`: over rare, common and frequent classes.
    - `lvis_box_fixed_AP`, `..._r`, `..._c`, `..._f`: of the best 10,000 detections per class, for which the model must
      return more than 300 per image.

    With masks, `lvis_mask_...` is the same for them. A mean over no class is NaN.

    Args:
        masks, results_file, shard_folder, show_classes: see `AveragePrecision`.
        fixed: whether fixed AP is computed too.
        frequencies: K letters "r", "c" or "f", one per class; default: `frequencies` of the dataset's `metainfo`, or no
            AP by frequency if it has none.
    """

    def __init__(
        self,
        masks: bool = False,
        fixed: bool = True,
        frequencies: Sequence[str] | None = None,
        results_file: str | None = None,
        shard_folder: str | None = None,
        show_classes: bool = True,
    ) -> None:
        super().__init__(masks, results_file, shard_folder, show_classes)
        self.fixed, self._given_frequencies = fixed, frequencies

    @property
    def frequencies(self) -> Sequence[str] | None:
        """K letters, one per class; None if they are not known."""
        if self._given_frequencies is not None:
            return self._given_frequencies
        return (self.dataset_meta or {}).get("frequencies")

    def check_data(self, sample: Sample) -> None:
        """Check at the first sample what would otherwise fail at the end of the evaluation.

        Raises:
            ValueError: the dataset does not state what the metric needs, or frequencies that do not fit the classes.
        """
        super().check_data(sample)
        letters = self.frequencies
        num_classes = len(known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}"))
        if letters is not None and (len(letters) != num_classes or not set(letters) <= set(FREQUENCIES)):
            raise ValueError(
                f"frequencies: expected {num_classes} letters of {'/'.join(FREQUENCIES)}, one per class, "
                f"got {len(letters)}: {''.join(sorted(set(letters)))}"
            )

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results, which are the same for any vocabulary."""
        letters = [f"_{letter}" for letter in FREQUENCIES] if self.frequencies is not None else []
        suffixes = [*MEANS, *(f"AP{letter}" for letter in letters)]
        suffixes += [f"fixed_AP{letter}" for letter in ["", *letters]] if self.fixed else []
        return [f"lvis_{shape}_{suffix}" for shape in self.shapes for suffix in suffixes]

    def tables_of(self, sample: Sample, prediction: DetectionPrediction) -> DetectionTables:
        """Return the tables of one image, without the masks that LVIS's rules ignore if no results file needs them.

        Raises:
            ValueError: the sample does not state which classes are verified to be absent.
        """
        if sample.federated is None:
            raise ValueError(
                f"sample {sample.sample_id!r}: LVIS's AP needs sample.federated, the classes verified to be absent; "
                "for data where every object is labeled use CocoAveragePrecision"
            )
        evaluated = None
        if self.results_file is None and sample.instances is not None:
            evaluated = {*sample.federated.negative, *sample.instances.classes.tolist()}
        return image_tables(sample, prediction, "mask" in self.shapes, evaluated)

    def class_precisions(self, tables: DetectionTables) -> dict[str, ClassPrecision]:
        """Return `lvis_box`, with `fixed` also `lvis_box_fixed`, and with masks the same for them."""
        num_classes, precisions = len(self.vocabulary), {}
        if self.fixed and most_per_image(tables) <= LVIS_PER_IMAGE:
            logger.warning(
                f"fixed AP: no image has more than {LVIS_PER_IMAGE} detections, so that it is too low; let the "
                "model return more (head.detector.detections.max_detections)"
            )
        for shape in self.shapes:
            precisions[f"lvis_{shape}"] = federated_average_precision(
                tables, num_classes, shape, max_per_image=LVIS_PER_IMAGE
            )
            if self.fixed:
                precisions[f"lvis_{shape}_fixed"] = federated_average_precision(
                    tables, num_classes, shape, max_per_image=None, max_per_class=FIXED_PER_CLASS
                )
        return precisions

    def means(self, precisions: dict[str, ClassPrecision]) -> dict[str, float]:
        """Return the flat metrics, 0..1."""
        metrics: dict[str, float] = {}
        for name, precision in precisions.items():
            means = {"AP": precision.mean()} if name.endswith("_fixed") else precision.six_means()
            metrics |= {f"{name}_{key}": value for key, value in means.items()}
            metrics |= frequency_means(precision, self.frequencies, f"{name}_AP")
        return metrics

    def further_columns(self) -> dict[str, Sequence[Any]]:
        """Return the frequency of each class, if it is known."""
        return {} if self.frequencies is None else {"frequency": [FREQUENCIES[letter] for letter in self.frequencies]}

    def rules(self) -> dict[str, Any]:
        """Return the entries of the protocol that describe the rules of the metric."""
        fixed = f"; fixed AP: the best {FIXED_PER_CLASS} detections of each class" if self.fixed else ""
        return {"average_precision": f"LVIS, the best {LVIS_PER_IMAGE} detections of each image{fixed}"}


def most_per_image(tables: DetectionTables) -> int:
    """Return the largest number of detections in one image."""
    # minlength: tables without detections have a maximum of 0 instead of an error.
    return int(np.bincount(tables.detections.images, minlength=1).max())


def open_vocabulary_means(precision: ClassPrecision, vocabulary: Vocabulary, shape: Shape) -> dict[str, float]:
    """Return AP50 over base, novel and all classes, 0..1; nothing if the vocabulary has no seen flags."""
    if vocabulary.seen is None:
        return {}
    seen = np.array(vocabulary.seen)
    groups = {"base": seen, "novel": ~seen, "all": np.ones_like(seen)}
    return {f"ovd_{shape}_AP50_{name}": precision.mean(threshold=0.5, classes=flags) for name, flags in groups.items()}


def frequency_means(precision: ClassPrecision, frequencies: Sequence[str] | None, name: str) -> dict[str, float]:
    """Return AP over rare, common and frequent classes, 0..1; nothing if the frequencies are not known."""
    if frequencies is None:
        return {}
    letters = np.array(list(frequencies))
    return {f"{name}_{letter}": precision.mean(classes=letters == letter) for letter in FREQUENCIES}


def class_rows(
    precisions: dict[str, ClassPrecision],
    tables: DetectionTables,
    vocabulary: Vocabulary,
    further_columns: dict[str, Sequence[Any]],
) -> list[dict[str, Any]]:
    """Return one row per class: AP and AP50 of each evaluation in percent, the number of objects, the role.

    Args:
        precisions: average precisions by the prefix of their keys.
        tables: tables of all images; crowds are not counted as objects.
        vocabulary: K classes.
        further_columns: K entries each.
    """
    columns: dict[str, Sequence[Any]] = {}
    for name, precision in precisions.items():
        columns[f"{name}_AP"] = (100 * precision.of_classes()).tolist()
        columns[f"{name}_AP50"] = (100 * precision.of_classes(0.5)).tolist()
    labels = tables.labels
    columns["objects"] = np.bincount(labels.classes[~labels.is_crowd], minlength=len(vocabulary)).tolist()
    columns |= further_columns | {"role": [class_role(vocabulary, index) for index in range(len(vocabulary))]}
    return [
        {"class": name, **dict(zip(columns, values))}
        for name, *values in zip(vocabulary.class_names, *columns.values())
    ]
