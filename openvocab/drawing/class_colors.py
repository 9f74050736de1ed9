"""One color per class name, which never contradicts the name: an "orange circle" is orange, a "golden ring" yellow.

A name with a color word is painted in a tint of that color: the basic color itself if it is free, else a lighter or a
darker one. All other names get vivid colors that are far apart. The rules are the same for every picture, and a color
depends only on a name and on those before it in the list: it stays when the list grows.

- Color words are those of `COLOR_WORDS`, their synonyms, and the plural of both ("two greens"). A name with several
  is painted in the first one. Only whole words count: a "greenhouse" is not green.
- Tints of a color word are nearest to it among all of `BASIC_COLORS`, by a clear margin.
- Vivid colors differ from those of a photo too, most of whose color the overlays of label maps remove.

Reference: Oklab, https://bottosson.github.io/posts/oklab
"""

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

NEUTRAL = (112, 116, 122)
"""Of classes that mean "everything else"."""
NEUTRAL_NAMES = frozenset({"background", "other", "others", "everything else"})
BASIC_COLORS = {
    "red": (222, 38, 44),
    "orange": (250, 132, 20),
    "yellow": (250, 220, 45),
    "green": (44, 170, 60),
    "cyan": (40, 205, 215),
    "blue": (45, 95, 230),
    "purple": (150, 62, 200),
    "pink": (250, 140, 195),
    "brown": (128, 78, 44),
    "white": (245, 245, 245),
    "gray": (165, 165, 165),
    "black": (38, 38, 38),
}
COLOR_WORDS = {
    **{word: word for word in BASIC_COLORS},
    **dict.fromkeys(("crimson", "scarlet", "ruby", "maroon", "burgundy"), "red"),
    **dict.fromkeys(("tangerine", "amber"), "orange"),
    **dict.fromkeys(("gold", "golden"), "yellow"),
    **dict.fromkeys(("emerald", "lime", "olive"), "green"),
    **dict.fromkeys(("turquoise", "teal", "aqua"), "cyan"),
    **dict.fromkeys(("navy", "azure"), "blue"),
    **dict.fromkeys(("violet", "lilac", "lavender", "indigo", "magenta", "fuchsia"), "purple"),
    **dict.fromkeys(("tan", "beige"), "brown"),
    **dict.fromkeys(("ivory",), "white"),
    **dict.fromkeys(("grey", "silver"), "gray"),
}
"""The basic color of each color word."""
CANDIDATES = 48
NAMES_PER_CHUNK = 16
"""Names whose vivid colors are compared with the chosen colors at once."""
CHUNK_ELEMENTS = 2**18
"""Distances that are computed at once (2 MiB)."""
NEAR = 0.2
"""Two vivid colors closer than this in Oklab are hard to tell apart in an overlay."""
NEAR_TINT = 0.1
"""The same of two tints of one color word, which have less room."""
CLEAR = 0.7
"""A tint is at most this many times as far from its own basic color as from the next one."""
LIGHTNESS_WEIGHT = 0.6
"""A photo shines through an overlay and changes its lightness, so that hue must tell vivid colors apart."""


def class_colors(names: Sequence[str]) -> np.ndarray:
    """Choose a color for each class name.

    A name proposes colors in a fixed order: the tints of its color word, the basic color first, or vivid colors that
    follow from its digest. It gets the first one that is far from those of the names before it, or else the farthest.

    Args:
        names: K names.

    Returns:
        (K, 3) uint8 RGB.
    """
    chosen = np.empty((len(names) + 1, 3))  # Oklab, of the neutral color and of the names so far
    chosen[0] = _oklab(np.array(NEUTRAL) / 255)
    count = 1
    colors = np.empty((len(names), 3), dtype=np.uint8)
    tints: dict[str, _Proposals] = {}
    for start in range(0, len(names), NAMES_PER_CHUNK):
        chunk = names[start : start + NAMES_PER_CHUNK]
        vivid = _Proposals(_vivid_colors(chunk), _WEIGHT, is_grid=False)
        for row, name in enumerate(chunk):
            if name.lower() in NEUTRAL_NAMES:
                colors[start + row] = NEUTRAL
                continue
            word = basic_color(name)
            if word is None:
                proposals, group, near = vivid, row, NEAR
            else:
                if word not in tints:
                    tints[word] = _Proposals(_tints(word)[None], np.ones(3), is_grid=True)
                proposals, group, near = tints[word], 0, NEAR_TINT
            distance = proposals.distances(chosen[:count])[group]
            best = int(np.argmax(distance >= near)) if (distance >= near).any() else int(distance.argmax())
            chosen[count] = proposals.positions[group, best]
            count += 1
            colors[start + row] = np.round(proposals.colors[group, best] * 255)
    return colors


def basic_color(name: str) -> str | None:
    """Return the basic color that a class name states, or None: `basic_color("Golden rings")` is "yellow"."""
    for word in re.findall(r"[^\W\d_]+", name.lower()):
        for form in (word, word.removesuffix("s"), word.removesuffix("es")):
            if form in COLOR_WORDS:
                return COLOR_WORDS[form]
    return None


@lru_cache(maxsize=len(BASIC_COLORS))
def _tints(word: str) -> np.ndarray:
    """Return the tints of a basic color, (P, 3) sRGB in 0..1: of about its hue, the basic color itself first."""
    basics = _oklab(np.array(list(BASIC_COLORS.values())) / 255)  # (12, 3)
    index = list(BASIC_COLORS).index(word)
    lightness, *tone = basics[index]
    chroma, hue = np.hypot(*tone), np.arctan2(tone[1], tone[0])
    if chroma < 0.02:  # white, gray and black have no hue: a trace of any leaves them what they are
        chromas, turns = np.array([0, 0.015, 0.03]), np.arange(0, 360, 60)
    else:
        chromas, turns = chroma * np.array([1, 1.15, 0.85, 0.7]), np.array([0, -5, 5, -10, 10])
    grid = np.meshgrid(lightness + np.arange(-0.3, 0.31, 0.02), chromas, hue + np.deg2rad(turns), indexing="ij")
    light, strength, angle = (axis.ravel() for axis in grid)
    tints = np.stack([light, strength * np.cos(angle), strength * np.sin(angle)], axis=-1)  # (P, 3)
    tints = np.concatenate([basics[index : index + 1], tints[_displayable(tints)]])
    distances = np.linalg.norm(tints[:, None] - basics, axis=-1)  # (P, basic colors)
    to_word, to_others = distances[:, index], np.delete(distances, index, axis=1).min(axis=1)
    is_clear = to_word <= CLEAR * to_others
    return _srgb(tints[is_clear][np.argsort(to_word[is_clear], kind="stable")])


def _vivid_colors(names: Sequence[str]) -> np.ndarray:
    """Return the colors that each name proposes, (K, CANDIDATES, 3) sRGB in 0..1, vivid and neither dark nor pale."""
    digests = [hashlib.shake_256(name.encode(errors="surrogatepass")).digest(3 * CANDIDATES) for name in names]
    values = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(names), 3, CANDIDATES) / 255.0
    # (K, CANDIDATES) each: every name gets its candidates from its own digest.
    hue, lightness, chroma = values.swapaxes(0, 1)
    lightness = 0.55 + 0.33 * lightness
    chroma = 0.13 + 0.09 * chroma
    angle = 2 * np.pi * hue
    return _srgb(np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=-1))


class _Proposals:
    """Proposed colors with the distance of each to the nearest chosen color, which every new choice updates.

    Args:
        colors: (G, P, 3) sRGB in 0..1, G groups of proposals.
        weight: (3,) weights of the axes of Oklab in a distance.
        is_grid: Whether the proposals lie on a grid, as tints do. Many of their distances are equal except for the
            rounding, or equal to the limit, so that a faster formula would choose other colors.
    """

    def __init__(self, colors: np.ndarray, weight: np.ndarray, is_grid: bool) -> None:
        self.colors = colors
        self.positions = _oklab(colors)
        self._weight = weight
        self._points = (self.positions * weight).reshape(-1, 3)
        self._is_grid = is_grid
        self._distances = np.full(len(self._points), np.inf)
        self._compared = 0

    def distances(self, chosen: np.ndarray) -> np.ndarray:
        """Return (G, P) distances to the nearest of the chosen colors.

        Args:
            chosen: (C, 3) Oklab. Those of the call before come first and are not compared again.
        """
        new = chosen[self._compared :] * self._weight
        size = max(1, CHUNK_ELEMENTS // len(self._points))
        for start in range(0, len(new), size):
            others = new[start : start + size]  # (N, 3)
            if len(others) > 1 and not self._is_grid:
                others = others[_nearest(self._points, others)][:, None]  # (G * P, 1, 3)
            difference = self._points[:, None] - others  # (G * P, N or 1, 3)
            squares = difference[..., 0] ** 2 + difference[..., 1] ** 2 + difference[..., 2] ** 2
            np.minimum(self._distances, np.sqrt(squares.min(axis=1)), out=self._distances)
        self._compared = len(chosen)
        return self._distances.reshape(self.positions.shape[:-1])


def _nearest(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the index of the nearest of (N, 3) others to each of (M, 3) points, (M,).

    It has the smallest |other|² - 2 point · other, which is one matrix product.
    """
    factors = np.concatenate([-2 * others, (others**2).sum(axis=1, keepdims=True)], axis=1)  # (N, 4)
    return (np.concatenate([points, np.ones((len(points), 1))], axis=1) @ factors.T).argmin(axis=1)


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


def _linear_srgb(oklab: np.ndarray) -> np.ndarray:
    """Convert (..., 3) Oklab to linear sRGB; what no screen can show lies outside of 0..1."""
    return (oklab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T


def _displayable(oklab: np.ndarray) -> np.ndarray:
    """Return (...) booleans: whether sRGB has the color."""
    linear = _linear_srgb(oklab)
    return np.logical_and(linear >= 0, linear <= 1).min(axis=-1)


def _srgb(oklab: np.ndarray) -> np.ndarray:
    """Convert (..., 3) Oklab to sRGB in 0..1; what lies outside is clipped."""
    linear = _linear_srgb(oklab).clip(0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
