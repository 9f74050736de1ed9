"""The result of segmentation: a name for every pixel."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from openvocab.argument_checks import check_fraction
from openvocab.drawing.class_figures import class_areas, describe_areas
from openvocab.images.image_input import rgb_image
from openvocab.logit_map import ELEMENTS_AT_ONCE, LogitMap
from openvocab.results.base import Result
from openvocab.results.geojson import geojson_features
from openvocab.results.outlines import Polygon, polygons_of
from openvocab.results.yolo import yolo_polygons
from openvocab.structures import SemanticPrediction, Size, ignore_index


@dataclass(repr=False, eq=False)
class SemanticResult(SemanticPrediction, Result):
    """A name for every pixel of an image.

    Args:
        label_map: (H, W) unsigned integers, indices into `names`; `ignore_index` where no name was found.
        vocabulary: the names that were asked for.
        sample_id: path of the image, or its number.
        source: the image as it was given.
        score_map: the score of each name at each pixel, (K, H, W) in 0..1, computed when it is read; None if it was
            not asked for.
        presence_of: computes how likely the whole image shows each name; None if that was not asked for, or the model
            does not embed whole images.
    """

    kind = "a label map"
    source: Any = None
    score_map: LogitMap | None = None
    presence_of: Callable[[], Mapping[str, float]] | None = None

    def __repr__(self) -> str:
        height, width = self.size
        return f"SemanticResult({height}x{width}, {len(self)} of {len(self.names)} names: {describe_areas(self)})"

    def describe(self) -> str:
        """Return the names found with their shares of the area: `sofa 61.5 %, cat 38.5 %`."""
        return describe_areas(self) or "none of the names"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields of a copy, pickled or not: with the presence itself, since the model does not go along."""
        state = vars(self).copy()
        if self.presence_of is not None:
            state["presence_of"] = partial(dict, self.presence)
        return state

    def __len__(self) -> int:
        """Return the number of names that were found."""
        return len(self._areas)

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        height, width = self.label_map.shape
        return height, width

    @property
    def unlabeled(self) -> int:
        """Value of `label_map` where no name was found."""
        return ignore_index(len(self.names))

    @cached_property
    def scores(self) -> np.ndarray:
        """(H, W) float32 in 0..1, the score of the name of each pixel; a probability if the head has a softmax.

        Raises:
            ValueError: scores were not asked for.
        """
        labels = torch.from_numpy(self.label_map.astype(np.int64)).clamp(max=len(self.names) - 1)

        def of_label(part: torch.Tensor, rows: slice) -> torch.Tensor:
            return part.gather(0, labels[rows].to(part.device)[None])[0]  # (n, W)

        scores = self._by_rows(of_label)
        scores[self.label_map == self.unlabeled] = 0.0
        return scores

    @cached_property
    def presence(self) -> Mapping[str, float]:
        """{name: score in 0..1}, how likely the whole image shows each name; see `Predictor.presence`.

        Raises:
            ValueError: scores were not asked for, or the model does not embed whole images.
        """
        if self.presence_of is None:
            raise ValueError(
                "this result has no presence: ask for it by predictor(image, names, scores=True), with a model that "
                "embeds whole images, such as dense CLIP"
            )
        return self.presence_of()

    def heat_map(self, name: str) -> np.ndarray:
        """Return the score of one name at every pixel, (H, W) float32 in 0..1.

        Raises:
            ValueError: the name was not asked for, or scores were not.
        """
        index = self.indices_of(name)[0]
        return self._by_rows(lambda part, rows: part[index])

    def mask(self, name: str) -> np.ndarray:
        """Return where a name was found, (H, W) bool.

        Raises:
            ValueError: the name was not asked for.
        """
        return self.label_map == self.indices_of(name)[0]

    def filter(self, min_score: float | None = None, names: str | Collection[str] | None = None) -> "SemanticResult":
        """Return the result without some pixels, which become `unlabeled`.

        Args:
            min_score: remove pixels whose score is below; needs scores.
            names: remove all other names.

        Raises:
            ValueError: a name was not asked for, scores are missing, or `min_score` lies outside 0..1.
        """
        if min_score is not None:
            check_fraction("min_score", min_score)
        # as many names as the type holds leave no number for "unlabeled"
        wide_enough = np.promote_types(self.label_map.dtype, np.min_scalar_type(self.unlabeled))
        label_map = self.label_map.astype(wide_enough)
        if names is not None:
            label_map[~np.isin(label_map, self.indices_of(names))] = self.unlabeled
        if min_score is not None:
            label_map[self.scores < min_score] = self.unlabeled
        return replace(self, label_map=label_map)

    def table(self) -> list[dict[str, Any]]:
        """Return {name, pixels, percent, score} of each name found; the mean score if scores were asked for."""
        labeled = self.label_map[self.label_map != self.unlabeled]
        counts = np.bincount(labeled, minlength=len(self.names))
        rows = []
        for index, share in self._areas.items():
            name = self.names[index]
            row = {"name": name, "pixels": int(counts[index]), "percent": round(100 * float(share), 3)}
            if self.score_map is not None:
                row["score"] = round(float(self.scores[self.label_map == index].mean()), 4)
            rows.append(row)
        return rows

    def polygons(self) -> Iterator[tuple[int, Polygon]]:
        """Yield the class and the outline of every connected region, class by class, the largest region first."""
        for index in self._areas:
            for polygon in polygons_of(self.label_map == index):
                yield index, polygon

    def draw(self, image: Any = None, *, alpha: float | None = None, legend: bool = True, heat: str = "") -> np.ndarray:
        """Return a picture of the names over the image, (H', W', 3) uint8 RGB.

        Args:
            image: the image, if the result has lost its own.
            alpha: opacity of the colors, 0..1.
            legend: whether to list the names and their shares of the area.
            heat: draw the score of this name instead; needs scores.
        """
        from openvocab.drawing.visualization import MAP_ALPHA, draw_label_map

        photo, opacity = self.image if image is None else rgb_image(image), MAP_ALPHA if alpha is None else alpha
        if heat:
            from openvocab.drawing.heat_drawing import draw_heat

            return draw_heat(photo, self.heat_map(heat), heat, alpha=opacity, legend=legend)
        return draw_label_map(photo, self, alpha=opacity, legend=legend)

    def to_json(self) -> dict[str, Any]:
        """Return {image, height, width, task, names, found} for `json.dumps`; `found` is the table."""
        height, width = self.size
        about = {"image": self.sample_id, "height": height, "width": width, "task": "semantic segmentation"}
        return about | {"names": list(self.names), "found": self.table()}

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """Return a COCO document with one mask for each name found, in run-length encoding."""
        from openvocab.results.coco import coco_document, coco_masks

        masks = ((index, self.label_map == index) for index in self._areas)
        return coco_document(self.sample_id, self.size, self.names, coco_masks(masks), image_id)

    def to_yolo(self) -> str:
        """Return a line `class x1 y1 x2 y2 ...` for each connected region, coordinates in 0..1."""
        return yolo_polygons(self.polygons(), self.size)

    def to_geojson(self) -> dict[str, Any]:
        """Return a feature collection of the connected regions, in pixels, y downwards."""
        return geojson_features((polygon, {"name": self.names[index]}) for index, polygon in self.polygons())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return {label_map, names}, and `scores` if they were asked for."""
        arrays = {"label_map": self.label_map, "names": np.array(self.names)}
        return arrays if self.score_map is None else arrays | {"scores": self.scores}

    def to_supervision(self) -> Any:
        """Return `supervision.Detections` with one mask for each name found (pip install supervision)."""
        from openvocab.results.supervision import supervision_detections

        labels = list(self._areas)
        masks = np.stack([self.label_map == index for index in labels]) if labels else np.zeros((0, *self.size), bool)
        scores = None if self.score_map is None else np.array([self.scores[mask].mean() for mask in masks])
        return supervision_detections(None, masks, scores, labels, self.names)

    def to_fiftyone(self) -> Any:
        """Return a `fiftyone.Segmentation` (pip install fiftyone); pixel values are index + 1, 0 for no name."""
        from openvocab.results.fiftyone import fiftyone_segmentation

        return fiftyone_segmentation(self.label_map, self.unlabeled)

    @property
    def _areas(self) -> dict[int, float]:
        return class_areas(self.label_map, len(self.names))

    @torch.inference_mode()
    def _by_rows(self, choose: Callable[[torch.Tensor, slice], torch.Tensor]) -> np.ndarray:
        """Return (H, W) float32 that `choose` makes of the scores (K, n, W) of some rows at a time."""
        if self.score_map is None:
            raise ValueError(
                "this result has no scores; ask for them by predictor(image, names, scores=True), with a model that "
                "has some for each pixel, such as dense CLIP"
            )
        num_classes, height, width = self.score_map.shape
        step = max(1, ELEMENTS_AT_ONCE // (num_classes * width))
        parts = []
        for start in range(0, height, step):
            rows = slice(start, min(start + step, height))
            part = self.score_map.read(rows, slice(0, width)).float()
            parts.append(choose(part, rows).cpu().numpy())
        return np.concatenate(parts)
