"""The result of detection: boxes, or boxes with masks, with names and scores."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from openvocab.argument_checks import check_fraction, check_number
from openvocab.drawing.class_figures import class_counts, describe_objects
from openvocab.images.image_input import rgb_image
from openvocab.results.base import Result
from openvocab.results.coco import coco_document, coco_objects
from openvocab.results.geojson import geojson_features
from openvocab.results.outlines import Polygon, polygons_of
from openvocab.results.yolo import yolo_boxes, yolo_polygons
from openvocab.structures import DetectionPrediction, Size

Objects = TypeVar("Objects", bound="DetectionResult")


@dataclass(repr=False, eq=False)
class DetectionResult(DetectionPrediction, Result):
    """The objects of an image, best score first.

    Args:
        boxes, scores, classes, vocabulary, masks, sample_id: see `DetectionPrediction`.
        source: the image as it was given.
        image_size: (height, width) of the image.
    """

    kind = "objects with boxes"
    source: Any = None
    image_size: Size = (0, 0)

    def __repr__(self) -> str:
        height, width = self.size
        count = f"{len(self)} object{'' if len(self) == 1 else 's'}"
        found = f": {describe_objects(self)}" if len(self) else ""
        return f"{type(self).__name__}({height}x{width}, {count}{found})"

    def describe(self) -> str:
        """Return the names found with their numbers of objects: `3 red circle (best 0.91), 1 blue star (0.55)`."""
        return describe_objects(self) or "none of the names"

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.boxes)

    def __getitem__(self: Objects, index: int | slice | Tensor | np.ndarray) -> Objects:
        """Return the objects at an index, in a slice, or chosen by indices (N',) or by flags (N,) bool."""
        rows = torch.arange(len(self))[torch.as_tensor(index) if isinstance(index, np.ndarray) else index]
        return self._rows(rows.reshape(-1))

    def __iter__(self: Objects) -> Iterator[Objects]:
        """Yield the objects one by one."""
        return (self[index] for index in range(len(self)))

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return self.image_size

    @property
    def object_names(self) -> list[str]:
        """N names, one for each object."""
        return [self.names[index] for index in self.classes.tolist()]

    def filter(
        self: Objects,
        min_score: float | None = None,
        names: str | Collection[str] | None = None,
        max_objects: int | None = None,
    ) -> Objects:
        """Return some of the objects.

        Args:
            min_score: remove objects whose score is below.
            names: remove all objects with other names.
            max_objects: keep at most this number, the best ones.

        Raises:
            ValueError: a name was not asked for, `min_score` lies outside 0..1, or `max_objects` is negative.
        """
        check_number("max_objects", max_objects, 0, whole=True, optional=True)
        keep = torch.ones(len(self), dtype=torch.bool)
        if min_score is not None:
            check_fraction("min_score", min_score)
            keep &= self.scores >= min_score
        if names is not None:
            keep &= torch.isin(self.classes, torch.tensor(self.indices_of(names), dtype=torch.int64))
        return self._rows(keep.nonzero()[:, 0][:max_objects])

    def table(self) -> list[dict[str, Any]]:
        """Return {name, count, best_score} of each name found."""
        return [
            {"name": self.names[index], "count": count, "best_score": round(best, 4)}
            for index, (count, best) in class_counts(self).items()
        ]

    def objects(self) -> list[dict[str, Any]]:
        """Return {name, score, x1, y1, x2, y2, pixels} of each object; `pixels` is the area of its mask, if it has one.

        Boxes are in pixels of the image; edges, so that a box of one pixel is 1 wide.
        """
        rows = []
        for index, (name, score, box) in enumerate(zip(self.object_names, self.scores.tolist(), self.boxes.tolist())):
            row = {"name": name, "score": round(score, 4)}
            row |= {key: round(value, 2) for key, value in zip(("x1", "y1", "x2", "y2"), box)}
            rows.append(row if self.masks is None else row | {"pixels": int(rle.area(self.masks[index]))})
        return rows

    def mask(self, index: int) -> np.ndarray:
        """Return the mask of an object, (H, W) bool.

        Raises:
            ValueError: the model finds boxes only.
        """
        if self.masks is None:
            raise ValueError("these objects have no masks: the model finds boxes only")
        return rle.decode(self.masks[index]).astype(bool)

    def polygons(self) -> Iterator[tuple[int, Polygon]]:
        """Yield the index of an object and the outline of each connected region of its mask, the largest first.

        Raises:
            ValueError: the model finds boxes only.
        """
        for index in range(len(self)):
            for polygon in polygons_of(self.mask(index)):
                yield index, polygon

    def draw(
        self,
        image: Any = None,
        *,
        min_score: float | None = None,
        max_objects: int | None = None,
        alpha: float | None = None,
        legend: bool = True,
    ) -> np.ndarray:
        """Return a picture of the objects, (H', W', 3) uint8 RGB.

        Args:
            image: the image, if the result has lost its own.
            min_score, max_objects: which objects are drawn, the best ones; default: `MIN_SCORE` and `MAX_OBJECTS` of
                `openvocab.drawing.box_drawing`.
            alpha: opacity of the masks, 0..1.
            legend: whether to list the names and their numbers of objects.
        """
        from openvocab.drawing.box_drawing import MASK_ALPHA, MAX_OBJECTS, MIN_SCORE, draw_detections

        return draw_detections(
            self.image if image is None else rgb_image(image),
            self,
            min_score=MIN_SCORE if min_score is None else min_score,
            max_objects=MAX_OBJECTS if max_objects is None else max_objects,
            alpha=MASK_ALPHA if alpha is None else alpha,
            legend=legend,
        )

    def to_json(self) -> dict[str, Any]:
        """Return {image, height, width, task, names, found, objects} for `json.dumps`."""
        height, width = self.size
        about = {"image": self.sample_id, "height": height, "width": width, "task": "detection"}
        return about | {"names": list(self.names), "found": self.table(), "objects": self.objects()}

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """Return a COCO document with one annotation for each object, with its score."""
        return coco_document(self.sample_id, self.size, self.names, coco_objects(self), image_id)

    def to_yolo(self) -> str:
        """Return a line for each object: `class x y width height`, center and size in 0..1; with masks, polygons."""
        if self.masks is None:
            return yolo_boxes(self.boxes, self.classes, self.size)
        classes = self.classes.tolist()
        return yolo_polygons(((classes[index], polygon) for index, polygon in self.polygons()), self.size)

    def to_geojson(self) -> dict[str, Any]:
        """Return a feature collection of the boxes, or of the regions of the masks, in pixels, y downwards."""
        properties = [{"object": index, **row} for index, row in enumerate(self.objects())]
        if self.masks is not None:
            return geojson_features((polygon, properties[index]) for index, polygon in self.polygons())
        corners = [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]) for x1, y1, x2, y2 in self.boxes.tolist()]
        return geojson_features(([ring], row) for ring, row in zip(corners, properties))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return {boxes, scores, classes, names}, and `masks` (N, H, W) bool if there are any."""
        arrays = {name: getattr(self, name).numpy() for name in ("boxes", "scores", "classes")}
        arrays["names"] = np.array(self.names)
        return arrays if self.masks is None else arrays | {"masks": self._all_masks()}

    def to_supervision(self) -> Any:
        """Return `supervision.Detections` (pip install supervision)."""
        from openvocab.results.supervision import supervision_detections

        masks = None if self.masks is None else self._all_masks()
        return supervision_detections(self.boxes.numpy(), masks, self.scores.numpy(), self.classes.tolist(), self.names)

    def to_fiftyone(self) -> Any:
        """Return `fiftyone.Detections` (pip install fiftyone)."""
        from openvocab.results.fiftyone import fiftyone_detections

        masks = None if self.masks is None else [self.mask(index) for index in range(len(self))]
        return fiftyone_detections(self.boxes.numpy(), self.scores.tolist(), self.object_names, masks, self.size)

    def _all_masks(self) -> np.ndarray:
        masks = [self.mask(index) for index in range(len(self))]
        return np.stack(masks) if masks else np.zeros((0, *self.size), bool)

    def _rows(self: Objects, rows: Tensor) -> Objects:
        masks = None if self.masks is None else [self.masks[index] for index in rows.tolist()]
        parts = {name: getattr(self, name)[rows] for name in ("boxes", "scores", "classes")}
        return replace(self, **parts, masks=masks)
