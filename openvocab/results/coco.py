"""Results as COCO documents: what pycocotools, annotation programs and viewers read."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as rle

from openvocab.structures import DetectionPrediction, Size

Annotation = dict[str, Any]


def coco_document(
    image: str, size: Size, names: Sequence[str], annotations: Iterable[Annotation], image_id: int = 1
) -> dict[str, Any]:
    """Return {images, annotations, categories} of one image.

    Args:
        image: path of the image, or its number.
        size: (height, width) of the image.
        names: K names; the category of a class is its index + 1.
        annotations: without their ids, which are counted from 1.
        image_id: id of the image.
    """
    numbered = [{"id": number, "image_id": image_id, **one} for number, one in enumerate(annotations, start=1)]
    return {
        "images": [{"id": image_id, "file_name": image, "height": size[0], "width": size[1]}],
        "annotations": numbered,
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
    }


def joined_documents(documents: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Join documents of several images with the same categories; images and annotations get new ids.

    Raises:
        ValueError: there is no document, or categories differ.
    """
    joined: dict[str, Any] = {}
    for image_id, document in enumerate(documents, start=1):
        joined = joined or {"images": [], "annotations": [], "categories": document["categories"]}
        if joined["categories"] != document["categories"]:
            raise ValueError("documents with different names cannot be joined into one")
        joined["images"] += [{**image, "id": image_id} for image in document["images"]]
        start = len(joined["annotations"]) + 1
        joined["annotations"] += [
            {**one, "id": number, "image_id": image_id} for number, one in enumerate(document["annotations"], start)
        ]
    if not joined:
        raise ValueError("expected at least one document, got none")
    return joined


def coco_objects(objects: DetectionPrediction) -> Iterator[Annotation]:
    """Yield an annotation with a score for each object; if there are no masks, its segmentation is the box."""
    for index, (label, score, box) in enumerate(
        zip(objects.classes.tolist(), objects.scores.tolist(), objects.boxes.tolist())
    ):
        x1, y1, x2, y2 = box
        bounds = [x1, y1, x2 - x1, y2 - y1]
        annotation: Annotation = {"category_id": label + 1, "score": score, "bbox": bounds, "iscrowd": 0}
        if objects.masks is None:
            annotation |= {"area": bounds[2] * bounds[3], "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
        else:
            mask = objects.masks[index]
            annotation |= {"area": float(rle.area(mask)), "segmentation": _readable(mask)}
        yield annotation


def coco_masks(masks: Iterable[tuple[int, np.ndarray]]) -> Iterator[Annotation]:
    """Yield an annotation for each (class, mask (H, W) bool)."""
    for label, mask in masks:
        encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotation = {"category_id": label + 1, "bbox": rle.toBbox(encoded).tolist(), "iscrowd": 0}
        yield annotation | {"area": float(rle.area(encoded)), "segmentation": _readable(encoded)}


def _readable(mask: dict[str, Any]) -> dict[str, Any]:
    """Return a run-length encoding whose counts are text, as in JSON."""
    counts = mask["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in mask["size"]], "counts": text}
