"""A contact sheet of samples as the training sees them: after all transforms, with their labels drawn in."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw
from pycocotools import mask as rle

from openvocab.datasets.transforms.results import Packed
from openvocab.drawing.legend import INK, PAPER, draw_long_legend, font, short_name, side_by_side
from openvocab.drawing.object_overlay import ObjectStyle, draw_objects
from openvocab.drawing.visualization import colors_of_present, draw_label_map
from openvocab.structures import DetectionPrediction, Sample, SemanticPrediction, ignore_index

TILE = 320
"""Longer side of a sample in the sheet, in pixels."""
GAP, TITLE = 12, 14
MASK_ALPHA = 0.35


def draw_sheet(items: Sequence[Packed], titles: Sequence[str]) -> np.ndarray:
    """Draw samples in a grid, with one legend of all their classes.

    Args:
        items: samples of one vocabulary, with label maps or objects in the frame of their images.
        titles: a line below each sample.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: no samples.
    """
    if not items:
        raise ValueError("a sheet needs at least one sample")
    tiles = [_with_line(_tile(item), title) for item, title in zip(items, titles)]
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = [side_by_side(tiles[start : start + columns], GAP) for start in range(0, len(tiles), columns)]
    return side_by_side([_stacked(rows), *_legend([item["sample"] for item in items], len(rows))], GAP)


def _tile(item: Packed) -> np.ndarray:
    """Return one sample with its labels, at most `TILE` pixels long."""
    sample, image = item["sample"], item["image"].permute(1, 2, 0).numpy()  # (H, W, 3)
    if sample.label_map is not None:
        label_map = sample.label_map.numpy()
        assert sample.vocabulary is not None  # of a dataset with labels
        drawn = draw_label_map(image, SemanticPrediction(label_map, sample.vocabulary), legend=False)
    else:
        drawn = _with_objects(image, sample)
    scale = TILE / max(drawn.shape[:2])
    size = (max(1, round(drawn.shape[1] * scale)), max(1, round(drawn.shape[0] * scale)))
    return cv2.resize(drawn, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def _with_objects(image: np.ndarray, sample: Sample) -> np.ndarray:
    """Draw the boxes and masks of a sample, in the size of the sheet, so that their tags can be read."""
    instances, vocabulary = sample.instances, sample.vocabulary
    if instances is None or vocabulary is None:
        return image
    scale = TILE / max(image.shape[:2])
    photo = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    masks = None
    if instances.masks is not None:
        resized = [cv2.resize(mask.numpy().astype(np.uint8), photo.shape[1::-1]) for mask in instances.masks]
        masks = [rle.encode(np.asfortranarray(mask)) for mask in resized]
    ones = torch.ones(len(instances.boxes))
    objects = DetectionPrediction(instances.boxes * scale, ones, instances.classes, vocabulary, masks)
    colors = colors_of_present(vocabulary.class_names, instances.classes.unique().tolist())
    return draw_objects(photo, objects, ObjectStyle(colors, {}, MASK_ALPHA, with_scores=False))[0]


def _with_line(picture: np.ndarray, title: str) -> np.ndarray:
    """Return a picture in a tile as wide as all others, with a line of text below it."""
    height = len(picture)
    tile = Image.new("RGB", (TILE, height + 2 * TITLE + GAP), PAPER)
    tile.paste(Image.fromarray(picture), ((TILE - picture.shape[1]) // 2, 0))
    ImageDraw.Draw(tile).text((TILE // 2, height + TITLE), short_name(title), INK, font(TITLE), anchor="mm")
    return np.asarray(tile)


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    width = max(row.shape[1] for row in rows)
    sheet = np.full((sum(map(len, rows)), width, 3), PAPER, np.uint8)
    top = 0
    for row in rows:
        sheet[top : top + len(row), : row.shape[1]] = row
        top += len(row)
    return sheet


def _legend(samples: Sequence[Sample], rows: int) -> list[np.ndarray]:
    """Return the columns of the legend: each class, and the number of samples that show it."""
    vocabulary = samples[0].vocabulary
    assert vocabulary is not None  # of a dataset with labels
    counts: dict[int, int] = {}
    for label in (label for sample in samples for label in _labels_in(sample, len(vocabulary))):
        counts[label] = counts.get(label, 0) + 1
    colors: Mapping[int, np.ndarray] = colors_of_present(vocabulary.class_names, counts)
    lines = [(vocabulary.class_names[label], colors[label], [str(counts[label])]) for label in sorted(counts)]
    return draw_long_legend(lines, ["samples"], (max(1, rows) * TILE, TILE)) if lines else []


def _labels_in(sample: Sample, count: int) -> list[int]:
    if sample.label_map is not None:
        return [label for label in sample.label_map.unique().tolist() if label != ignore_index(count)]
    return [] if sample.instances is None else sample.instances.classes.unique().tolist()
