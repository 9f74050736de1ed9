"""Sheets of samples: the first training batches as the network sees them, and predictions next to the truth."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from openvocab.drawing.legend import one_below_another, side_by_side
from openvocab.drawing.sample_picture import draw_prediction, draw_targets, shrink
from openvocab.images.image_io import read_image
from openvocab.preprocessor import BatchPreprocessor
from openvocab.structures import Instances, Prediction, Sample

MAX_TILES = 8
"""Images of a batch that are drawn."""
MAX_ROWS = 4
"""Of a sheet of training samples: wide ones, with several views, fill a page sooner."""
TILE_SIDE = 448
"""Long side of a drawn input in pixels; larger ones are reduced."""
SHEET_WIDTH = 1500


def draw_training_batch(preprocessor: BatchPreprocessor, batch: dict[str, Any]) -> np.ndarray:
    """Draw a batch of the training loader after preprocessing, with its targets.

    Args:
        preprocessor: of the model; the pixels are those that it passes to the network, with the normalization undone.
        batch: {"image": [(3, H, W) or (V, 3, H, W) uint8], "sample": [Sample]}.

    Returns:
        (H', W', 3) uint8 RGB.
    """
    few = {"image": list(batch["image"][:MAX_TILES]), "sample": list(batch["sample"][:MAX_TILES])}
    with torch.no_grad():
        prepared = preprocessor(few, training=True)
    pixels = denormalize(preprocessor, prepared["images"])  # (V * B, H, W, 3)
    samples = prepared["samples"]
    views = np.split(pixels, len(pixels) // len(samples))  # V times (B, H, W, 3)
    tiles = [_draw_tile([view[index] for view in views], sample) for index, sample in enumerate(samples)]
    return tile_sheet(tiles, MAX_ROWS)


def fast_png(picture: np.ndarray) -> bytes:
    """Return a picture (H, W, 3) uint8 RGB as a PNG file that is written in a fraction of the time and a bit larger."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return file.getvalue()


def draw_predictions(pairs: Sequence[tuple[Sample, Prediction]]) -> np.ndarray | None:
    """Draw predictions next to the truth, one below another; None if no sample has an image file."""
    rows = [
        # without a limit: the dataset has read the image already, within its own
        draw_prediction(read_image(sample.image_path, max_pixels=None), sample, prediction)
        for sample, prediction in pairs
        if sample.image_path
    ]
    if not rows:
        return None
    is_wide = rows[0].shape[1] > 2 * TILE_SIDE
    return shrink_width(one_below_another(rows)) if is_wide else tile_sheet(rows)


def denormalize(preprocessor: BatchPreprocessor, images: Tensor) -> np.ndarray:
    """Return the pixels (B, H, W, 3) uint8 RGB of normalized images (B, 3, H, W)."""
    pixels = (images.float() - preprocessor.shift) / preprocessor.scale
    return pixels.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()  # (B, H, W, 3)


def tile_sheet(tiles: Sequence[np.ndarray], max_rows: int | None = None, gap: int = 12) -> np.ndarray:
    """Put pictures (H_i, W_i, 3) uint8 in rows of about `SHEET_WIDTH` pixels; those after `max_rows` are left out."""
    fitting = max(1, round(SHEET_WIDTH / (max(tile.shape[1] for tile in tiles) + gap)))
    near = [fitting, fitting + 1, fitting - 1]
    columns = next((number for number in near if number and len(tiles) % number == 0), fitting)  # no gap at the end
    rows = [side_by_side(tiles[start : start + columns], gap) for start in range(0, len(tiles), columns)]
    return shrink_width(one_below_another(rows[:max_rows], gap))


def shrink_width(sheet: np.ndarray) -> np.ndarray:
    """Return a sheet (H, W, 3) uint8 at most `SHEET_WIDTH` pixels wide."""
    scale = SHEET_WIDTH / sheet.shape[1]
    return sheet if scale >= 1 else shrink(sheet, round(max(sheet.shape[:2]) * scale))


def _draw_tile(views: Sequence[np.ndarray], sample: Sample) -> np.ndarray:
    """Draw one input (H, W, 3), without its padding, reduced to `TILE_SIDE` together with its targets."""
    height, width = sample.input_size
    views = [view[:height, :width] for view in views]
    scale = TILE_SIDE / max(height, width)
    label_map, instances = sample.label_map, sample.instances
    if label_map is not None:
        label_map = label_map[:height, :width].cpu()
    if scale < 1:
        views = [shrink(view, TILE_SIDE) for view in views]
        size = views[0].shape[1::-1]
        label_map = None if label_map is None else _resized(label_map, size)
        instances = None if instances is None else _scaled(instances, (width, height), size)
    return draw_targets(views, dataclasses.replace(sample, label_map=label_map, instances=instances))


def _resized(label_map: Tensor, size: Sequence[int]) -> Tensor:
    """Return a label map (H, W) at size (width, height), without mixing labels."""
    labels = label_map.numpy().astype(np.int32)
    return torch.from_numpy(cv2.resize(labels, list(size), interpolation=cv2.INTER_NEAREST))


def _scaled(instances: Instances, size: Sequence[int], new_size: Sequence[int]) -> Instances:
    """Return instances in a frame that is reduced from one (width, height) to another."""
    factors = torch.tensor([new / old for new, old in zip(new_size, size)] * 2)
    masks = instances.masks
    if masks is not None:
        resized = torch.nn.functional.interpolate(
            masks[:, None].cpu().float(), list(reversed(new_size)), mode="nearest"
        )
        masks = resized[:, 0] > 0  # (N, h, w)
    return dataclasses.replace(instances, boxes=instances.boxes.cpu() * factors, masks=masks)
