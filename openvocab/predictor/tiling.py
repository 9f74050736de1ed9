"""Predictions of a large image, tile by tile, at the resolution of its pixels."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from openvocab.argument_checks import check_number, check_numbers
from openvocab.logit_map import LogitMap
from openvocab.results.base import Result
from openvocab.results.detection import DetectionResult
from openvocab.results.semantic import SemanticResult
from openvocab.structures import Size

OVERLAP = 0.25
"""Share of a tile that it has in common with the next one."""
SAME_OBJECT = 0.5
"""Two boxes of one name from two tiles are one object if they share at least this part of the smaller one."""


def predict_tiles(
    image: np.ndarray, tile: int | Size, predict: Callable[[np.ndarray], Result], source: Any = None
) -> Result:
    """Predict tiles that overlap by a quarter, and join the results.

    A pixel takes its name from the tile whose middle is nearest, in each direction. Objects of one name from different
    tiles that share half of the smaller box become one, which covers both.

    Args:
        image: (H, W, 3) uint8 RGB.
        tile: (height, width) in pixels, or one number for both.
        predict: predicts one tile (h, w, 3).
        source: the image as it was given, for the result.

    Returns:
        A result like those of `predict`, in the frame of the image.

    Raises:
        ValueError: a tile is smaller than one pixel, or the model classifies whole images.
    """
    if isinstance(tile, Sequence):
        check_numbers("tile", tile, 1, whole=True, count=2)
    else:
        check_number("tile", tile, 1, whole=True)
    height, width = tile if isinstance(tile, Sequence) else (tile, tile)
    size: Size = (image.shape[0], image.shape[1])
    tiles = [
        _Tile(rows, columns, predict(image[rows.start : rows.stop, columns.start : columns.stop]))
        for rows in _parts(size[0], height)
        for columns in _parts(size[1], width)
    ]
    first = tiles[0].result
    if isinstance(first, SemanticResult):
        return _joined_label_maps(first, tiles, size, source)
    if isinstance(first, DetectionResult):
        return _joined_objects(first, tiles, size, source)
    raise ValueError("tile: this model has one answer for a whole image, which tiles would cut; leave tile out")


@dataclass(frozen=True)
class _Part:
    """A part of one axis: what is predicted, and what of that is used."""

    start: int
    stop: int
    first: int
    last: int
    """Pixels `first` to `last`, without the last one, are nearest to the middle of this part."""


@dataclass(frozen=True)
class _Tile:
    rows: _Part
    columns: _Part
    result: Any


def _parts(length: int, tile: int) -> list[_Part]:
    """Return the parts of an axis: as few as possible with at least the overlap, evenly spread."""
    if tile >= length:
        return [_Part(0, length, 0, length)]
    stride = max(1, int(tile * (1 - OVERLAP)))
    count = -(-(length - tile) // stride) + 1
    starts = [round(index * (length - tile) / (count - 1)) for index in range(count)]
    borders = [0, *((before + tile + after) // 2 for before, after in zip(starts, starts[1:])), length]
    return [_Part(start, start + tile, *ends) for start, ends in zip(starts, zip(borders, borders[1:]))]


def _joined_label_maps(first: SemanticResult, tiles: Sequence[_Tile], size: Size, source: Any) -> SemanticResult:
    label_map, everywhere = np.empty(size, first.label_map.dtype), slice(0, max(size))
    for tile in tiles:
        rows, columns = tile.rows, tile.columns
        inner = _moved(_shared(rows, everywhere), rows.start), _moved(_shared(columns, everywhere), columns.start)
        label_map[rows.first : rows.last, columns.first : columns.last] = tile.result.label_map[inner]
    scores = None if first.score_map is None else _TiledScores(tiles, size)
    return SemanticResult(label_map, first.vocabulary, first.sample_id, source, scores)


class _TiledScores(LogitMap):
    """The scores (K, H, W) of an image, read from those of its tiles."""

    def __init__(self, tiles: Sequence[_Tile], size: Size) -> None:
        self._parts = [(tile.rows, tile.columns, tile.result.score_map) for tile in tiles]
        first = self._parts[0][2]
        self.shape, self.device = (first.shape[0], *size), first.device

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the scores (K, n, m) of a part; see `LogitMap`."""
        scores = torch.empty(self.shape[0], rows.stop - rows.start, columns.stop - columns.start, device=self.device)
        for tile_rows, tile_columns, score_map in self._parts:
            y, x = _shared(tile_rows, rows), _shared(tile_columns, columns)
            if y.start < y.stop and x.start < x.stop:
                part = score_map.read(_moved(y, tile_rows.start), _moved(x, tile_columns.start))
                scores[:, _moved(y, rows.start), _moved(x, columns.start)] = part
        return scores


def _shared(part: _Part, of: slice) -> slice:
    return slice(max(part.first, of.start), min(part.last, of.stop))


def _moved(part: slice, start: int) -> slice:
    return slice(part.start - start, part.stop - start)


def _joined_objects(first: DetectionResult, tiles: Sequence[_Tile], size: Size, source: Any) -> DetectionResult:
    parts = [_in_image(tile, size) for tile in tiles]
    boxes, scores = torch.cat([part.boxes for part in parts]), torch.cat([part.scores for part in parts])
    classes = torch.cat([part.classes for part in parts])
    masks = None if first.masks is None else [mask for part in parts for mask in part.masks or ()]
    origin = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts]))
    groups = list(_groups(boxes, scores, classes, origin))
    best = torch.tensor([group[0] for group in groups], dtype=torch.int64)
    joined = [torch.cat([boxes[group, :2].amin(dim=0), boxes[group, 2:].amax(dim=0)]) for group in groups]
    return DetectionResult(
        torch.stack(joined) if joined else boxes[:0], scores[best], classes[best], first.vocabulary,
        None if masks is None else [rle.merge([masks[index] for index in group]) for group in groups],
        first.sample_id, source, size,
    )  # fmt: skip


def _in_image(tile: _Tile, size: Size) -> DetectionResult:
    """Return the objects of a tile in the frame of the image."""
    result, top, left = tile.result, tile.rows.start, tile.columns.start
    boxes = result.boxes + torch.tensor([left, top, left, top], dtype=torch.float32)
    masks = None
    if result.masks is not None:
        masks = []
        for index in range(len(result)):
            whole = np.zeros(size, np.uint8, order="F")
            mask = result.mask(index)
            whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
            masks.append(rle.encode(whole))
    return replace(result, boxes=boxes, masks=masks, image_size=size)


def _groups(boxes: Tensor, scores: Tensor, classes: Tensor, origin: Tensor) -> Iterator[list[int]]:
    """Yield the indices of boxes (N, 4) that are one object, the best of them first, in the order of their scores.

    Args:
        boxes, scores, classes: of N objects.
        origin: (N,) the tile of each; a tile has no object twice.
    """
    waiting = scores.argsort(descending=True, stable=True).tolist()
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    while waiting:
        group = [waiting.pop(0)]
        for index in list(waiting):
            same_name = classes[index] == classes[group[0]]
            if same_name and not (origin[group] == origin[index]).any() and _is_same(boxes, areas, group, index):
                group.append(index)
                waiting.remove(index)
        yield group


def _is_same(boxes: Tensor, areas: Tensor, group: Sequence[int], index: int) -> bool:
    """Return whether a box shares enough of the smaller area with one of a group."""
    upper, lower = torch.maximum(boxes[group, :2], boxes[index, :2]), torch.minimum(boxes[group, 2:], boxes[index, 2:])
    shared = (lower - upper).clamp(min=0).prod(dim=1)
    return bool((shared >= SAME_OBJECT * torch.minimum(areas[group], areas[index])).any())
