"""A small COCO dataset on disk, for tests that spoil it in some way."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (40, 60)
NAMES = {3: "cat", 7: "dog", 20: "traffic_light"}
"""Ids with holes, and a name with an underscore."""


def box_annotation(image_id: int, category_id: int, bbox: list[float], **more: Any) -> dict[str, Any]:
    """Return an annotation whose polygon is its box."""
    x, y, w, h = bbox
    polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {"image_id": image_id, "category_id": category_id, "bbox": bbox, "segmentation": [polygon], **more}


def coco_content() -> dict[str, Any]:
    """Four images: cat and dog, dog and traffic light, a crowd of cats only, nothing."""
    annotations = [
        box_annotation(11, 3, [5, 6, 20, 10]),
        box_annotation(12, 20, [30, 2, 8, 30]),
        box_annotation(11, 7, [30, 20, 25, 15]),
        box_annotation(12, 7, [1, 1, 10, 12]),
        box_annotation(13, 3, [0, 0, 60, 20], iscrowd=1),
    ]
    for number, annotation in enumerate(annotations):
        annotation["id"] = 100 + number
    height, width = SIZE
    images = [{"id": i, "file_name": f"{i}.jpg", "height": height, "width": width} for i in (11, 12, 13, 14)]
    categories = [{"id": number, "name": name} for number, name in NAMES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(folder: Path, content: dict[str, Any] | None = None) -> Path:
    """Write the images and `labels.json`; return its path."""
    (folder / "images").mkdir(exist_ok=True)
    for image_id in (11, 12, 13, 14):
        cv2.imwrite(str(folder / f"images/{image_id}.jpg"), np.full((*SIZE, 3), image_id, np.uint8))
    path = folder / "labels.json"
    path.write_text(json.dumps(coco_content() if content is None else content))
    return path
