"""One color a class name: vivid, far from the others, the same in every picture of a vocabulary."""

import hashlib
from collections.abc import Sequence

import numpy as np

NEUTRAL = (112, 116, 122)
"""Of classes that mean "everything else"."""
NEUTRAL_NAMES = frozenset({"background", "other", "others", "everything else"})
CANDIDATES = 48
NEAR = 0.2
"""Two colors closer than this in Oklab are hard to tell apart in an overlay."""
LIGHTNESS_WEIGHT = 0.6
"""A photo shines through an overlay and changes its lightness, so that hue must tell classes apart."""


def class_colors(names: Sequence[str]) -> np.ndarray:
    """Choose a color for each name.

    A name's digest proposes colors in a fixed order; it gets the first that is far from those given before it, or else
    the farthest. So a name keeps its color in other pictures, in longer lists and mostly in other lists, too.

    Args:
        names: K names.

    Returns:
        (K, 3) uint8 RGB.

    Reference: Oklab, https://bottosson.github.io/posts/oklab
    """
    given = [_oklab(np.array(NEUTRAL) / 255) * _WEIGHT]
    colors = np.empty((len(names), 3), dtype=np.uint8)
    for index, name in enumerate(names):
        if name.lower() in NEUTRAL_NAMES:
            colors[index] = NEUTRAL
            continue
        proposals = _proposals(name)
        places = _oklab(proposals) * _WEIGHT  # (CANDIDATES, 3)
        distance = np.min(np.linalg.norm(places[:, None] - np.stack(given), axis=-1), axis=1)
        chosen = int(np.argmax(distance >= NEAR)) if (distance >= NEAR).any() else int(distance.argmax())
        given.append(places[chosen])
        colors[index] = np.round(proposals[chosen] * 255)
    return colors


def _proposals(name: str) -> np.ndarray:
    """Return the colors that a name proposes, (CANDIDATES, 3) sRGB in 0..1, vivid and neither dark nor pale."""
    digest = hashlib.shake_256(name.encode()).digest(3 * CANDIDATES)
    hue, lightness, chroma = np.frombuffer(digest, dtype=np.uint8).reshape(3, CANDIDATES) / 255.0
    lightness = 0.55 + 0.33 * lightness
    chroma = 0.13 + 0.09 * chroma
    angle = 2 * np.pi * hue
    return _srgb(np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1))


_WEIGHT = np.array([LIGHTNESS_WEIGHT, 1.0, 1.0])
_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _oklab(srgb: np.ndarray) -> np.ndarray:
    """Convert (..., 3) sRGB in 0..1 to Oklab."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def _srgb(oklab: np.ndarray) -> np.ndarray:
    """Convert (..., 3) Oklab to sRGB in 0..1; what lies outside is clipped."""
    linear = (oklab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T
    linear = linear.clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
