"""Pictures of where one name is probable: a photo below a map of colors, with a scale."""

import matplotlib
import numpy as np
from PIL import Image, ImageDraw

from openvocab.drawing.legend import INK, PAPER, font, short_name, side_by_side, text_size, with_title
from openvocab.drawing.visualization import check_image, enlarge

COLORS = "inferno"
"""Matplotlib's name of the colors: dark to light, even for color-blind eyes and in gray."""


def draw_heat(image: np.ndarray, heat: np.ndarray, name: str, *, alpha: float, legend: bool = True) -> np.ndarray:
    """Draw the probability of one name at every pixel over a photo.

    Args:
        image: (H, W, 3) uint8 RGB.
        heat: (H, W) float in 0..1.
        name: the name, for the title.
        alpha: opacity of the colors, 0..1; the photo below them is gray.
        legend: whether to add a title and the scale of the colors.

    Returns:
        (H', W', 3) uint8 RGB; tiny images are enlarged.

    Raises:
        ValueError: image and heat map differ in size, or `alpha` lies outside 0..1.
    """
    check_image(image, alpha)
    if heat.shape != image.shape[:2]:
        raise ValueError(f"the image is {image.shape[:2]}, the heat map {heat.shape}; they must agree")
    gray = np.repeat(image.mean(axis=2, keepdims=True), 3, axis=2)
    top = _scale_end(heat)
    picture = enlarge(np.round((1 - alpha) * gray + alpha * _colors(heat / top)).astype(np.uint8))
    if not legend:
        return picture
    text = text_size(picture.shape)
    return side_by_side([with_title(picture, short_name(name), text), _scale(top, text, len(picture) + 2 * text)])


def _scale_end(heat: np.ndarray) -> float:
    """Return the probability of the brightest color: the largest one, rounded up to a readable number."""
    largest = max(float(heat.max()), 1e-3)
    unit = 10 ** np.floor(np.log10(largest))
    return float(min(1.0, np.ceil(largest / unit - 1e-6) * unit))


def _colors(values: np.ndarray) -> np.ndarray:
    """Return the colors (..., 3) float in 0..255 of values (...) in 0..1."""
    return 255 * matplotlib.colormaps[COLORS](values)[..., :3]


def _scale(top: float, text: int, height: int) -> np.ndarray:
    """Return the scale of the colors, (h, w, 3) uint8 RGB, from 0 at the bottom to `top`; h is `height` or more."""
    letters = font(text)
    labels = [f"{top * share:.3g}" for share in (1, 0.5, 0)]
    width = round(4 * text + max(letters.getlength(label) for label in labels))
    length = max(height - 4 * text, 3 * text)  # room for the numbers next to the bar, however low the photo is
    panel = Image.new("RGB", (width, length + 4 * text), PAPER)
    bar = _colors(np.linspace(1, 0, length))[:, None].repeat(text, axis=1)
    panel.paste(Image.fromarray(bar.round().astype(np.uint8)), (text, 2 * text))
    draw = ImageDraw.Draw(panel)
    for label, share in zip(labels, (0, 0.5, 1)):
        draw.text((2.5 * text, 2 * text + share * (length - 1)), label, INK, letters, anchor="lm")
    return np.asarray(panel)
