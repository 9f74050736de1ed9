"""Pictures of predictions: overlays with contours, names and a legend."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from openvocab.class_colors import class_colors
from openvocab.structures import IGNORE_INDEX, SemanticPrediction

MIN_SIDE = 448
"""Smaller pictures are enlarged to this longer side, so that contours and names can be read."""
PAPER = (250, 250, 248)
INK = (32, 34, 38)
FAINT_INK = (118, 122, 130)
MAX_LEGEND_ROWS = 24


def draw_label_map(
    image: np.ndarray, prediction: SemanticPrediction, *, alpha: float = 0.55, legend: bool = True
) -> np.ndarray:
    """Lay the predicted classes over a photo, each in its own colour with its contour.

    Args:
        image: (H, W, 3) uint8 RGB, of the prediction's size.
        prediction: label map in the original frame; 255 in a map of up to 255 classes is left bare.
        alpha: opacity of the colours, 0..1.
        legend: whether to add a panel with the names of the classes present and their share of the area.

    Returns:
        (H', W', 3) uint8 RGB; tiny images are enlarged.

    Raises:
        ValueError: image and label map differ in size, or `alpha` lies outside 0..1.
    """
    _check(image, prediction.label_map, alpha)
    overlay = _overlay(image, prediction.label_map, class_colors(prediction.class_names), alpha)
    if not legend:
        return overlay
    return _beside([overlay, _legend(_shares([prediction.label_map]), prediction.class_names, overlay.shape[0])])


def draw_comparison(
    image: np.ndarray, prediction: SemanticPrediction, ground_truth: np.ndarray, *, alpha: float = 0.8
) -> np.ndarray:
    """Draw photo, ground truth and prediction side by side with one legend.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: label map in the original frame.
        ground_truth: (H, W) integers of the same vocabulary, 255 = ignored.
        alpha: opacity of the colours, 0..1.

    Returns:
        (H', W', 3) uint8 RGB.

    Raises:
        ValueError: sizes differ, or `alpha` lies outside 0..1.
    """
    colors = class_colors(prediction.class_names)
    panels = []
    for title, label_map in (("photo", None), ("ground truth", ground_truth), ("prediction", prediction.label_map)):
        panel = _enlarge(image)
        if label_map is not None:
            _check(image, label_map, alpha)
            panel = _overlay(image, label_map, colors, alpha)
        panels.append(_titled(panel, title))
    shares = _shares([prediction.label_map, ground_truth])
    return _beside([*panels, _legend(shares, prediction.class_names, panels[0].shape[0])])


def class_shares(label_map: np.ndarray) -> dict[int, float]:
    """Return the share of the labelled area (0..1) of every class present, the largest first."""
    return _shares([label_map])


def _shares(label_maps: Sequence[np.ndarray]) -> dict[int, float]:
    """Return the shares of the first map; classes that only later maps hold follow with a share of 0."""
    counts = {}
    for label_map in label_maps:
        labels, pixels = np.unique(_labelled(label_map), return_counts=True)
        shares = dict(zip(labels.tolist(), (pixels / max(pixels.sum(), 1)).tolist()))
        for label in sorted(shares, key=shares.get, reverse=True):
            counts.setdefault(label, shares[label] if label_map is label_maps[0] else 0.0)
    return counts


def _labelled(label_map: np.ndarray) -> np.ndarray:
    return label_map[label_map != IGNORE_INDEX] if label_map.dtype == np.uint8 else label_map.ravel()


def _check(image: np.ndarray, label_map: np.ndarray, alpha: float) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"expected an image (H, W, 3) uint8, got {image.dtype} {image.shape}")
    if image.shape[:2] != label_map.shape:
        raise ValueError(f"the image is {image.shape[:2]}, its label map {label_map.shape}; they must be of one size")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: expected 0..1, got {alpha}")


def _factor(size: tuple[int, ...]) -> int:
    return max(1, round(MIN_SIDE / max(size[:2])))


def _enlarge(image: np.ndarray) -> np.ndarray:
    factor = _factor(image.shape)
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return cv2.resize(image, size, interpolation=cv2.INTER_CUBIC) if factor > 1 else image


def _overlay(image: np.ndarray, label_map: np.ndarray, colors: np.ndarray, alpha: float) -> np.ndarray:
    """Blend the class colours into the photo and draw the borders between classes."""
    factor = _factor(image.shape)
    photo = _enlarge(image).astype(np.float32)
    labels = np.repeat(np.repeat(label_map.astype(np.int32), factor, 0), factor, 1)
    ignored = labels == IGNORE_INDEX if label_map.dtype == np.uint8 else np.zeros(labels.shape, bool)
    color = colors[np.where(ignored, 0, labels)].astype(np.float32)
    grey = photo.mean(axis=2, keepdims=True)
    mixed = (1 - alpha) * (0.35 * photo + 0.65 * grey) + alpha * color
    mixed[ignored] = photo[ignored]
    border = _borders(labels, max(1, round(max(labels.shape) / 400)))
    mixed[border] = 0.25 * mixed[border] + 0.75 * 255
    return mixed.clip(0, 255).astype(np.uint8)


def _borders(labels: np.ndarray, width: int) -> np.ndarray:
    """Return (H, W) boolean: within `width` pixels of another class."""
    edge = np.zeros(labels.shape, dtype=np.uint8)
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    edge[1:] |= labels[1:] != labels[:-1]
    return cv2.dilate(edge, np.ones((width, width), np.uint8)).astype(bool)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans comes with matplotlib, which mmengine needs anyway; a glyph it lacks becomes a box, never an error."""
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _legend(shares: dict[int, float], names: Sequence[str], height: int) -> np.ndarray:
    """Draw a panel with swatch, name and share of each class."""
    text = max(13, min(22, height // 24))
    row, margin, swatch = round(1.75 * text), text, round(1.1 * text)
    rows = min(len(shares), MAX_LEGEND_ROWS, max(1, (height - 2 * margin) // row))
    shown = list(shares.items())[:rows]
    font, colors = _font(text), class_colors(names)
    captions = [(_short(names[label]), f"{100 * share:.1f} %") for label, share in shown]
    widths = [max((font.getlength(caption[side]) for caption in captions), default=0) for side in (0, 1)]
    width = round(2 * margin + swatch + text * 0.7 + widths[0] + 1.5 * text + widths[1])
    panel = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(panel)
    for index, ((label, _), (name, share)) in enumerate(zip(shown, captions)):
        middle = margin + index * row + row // 2
        box = (margin, middle - swatch // 2, margin + swatch, middle + swatch // 2)
        draw.rounded_rectangle(box, radius=swatch // 4, fill=tuple(colors[label].tolist()))
        draw.text((margin + swatch + text * 0.7, middle), name, INK, font, anchor="lm")
        draw.text((width - margin, middle), share, FAINT_INK, font, anchor="rm")
    return np.asarray(panel)


def _short(name: str, limit: int = 32) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _titled(panel: np.ndarray, title: str) -> np.ndarray:
    """Add a line of text above a picture."""
    text = max(13, min(22, panel.shape[0] // 24))
    head = Image.new("RGB", (panel.shape[1], 2 * text), PAPER)
    ImageDraw.Draw(head).text((panel.shape[1] // 2, text), title, INK, _font(text), anchor="mm")
    return np.vstack([np.asarray(head), panel])


def _beside(panels: Sequence[np.ndarray], gap: int = 8) -> np.ndarray:
    """Put pictures of one height side by side."""
    space = np.full((panels[0].shape[0], gap, 3), PAPER, dtype=np.uint8)
    joined = [part for panel in panels for part in (space, panel)][1:]
    return np.hstack(joined)
