"""Draw a Shapes scene: cluttered background, textured objects, light, blur and noise.

All arithmetic is on integers, or additions and multiplications in float32 or float64, so that the image is the same on
every machine.
"""

import cv2
import numpy as np

from openvocab.datasets.shapes.classes import COLORS
from openvocab.datasets.shapes.forms import cos_sin
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.raster import polygon_coverage, stroke_outline
from openvocab.datasets.shapes.scene import IMAGE_SIZE, Scene, ShapeObject

Color = tuple[float, float, float]
"""Red, green, blue in 0..255."""

# In degrees. Even with the largest jitter and tint neighbors stay apart, so that every color has one correct name.
HUES = {"red": 0, "orange": 27, "yellow": 56, "green": 118, "cyan": 182, "blue": 226, "purple": 284, "white": 0}
HUE_JITTER = 6
TINT = 0.09
"""Largest relative change of the red, green or blue channel by the light."""
COLOR_CONTRAST = 90.0
"""Minimum distance in RGB between a large background area and every object of the scene."""
CENTERS = np.arange(IMAGE_SIZE) + 0.5


def draw(scene: Scene, stream: RandomStream) -> np.ndarray:
    """Return the image of a scene, (64, 64, 3) uint8 RGB."""
    colors = [object_color(obj.color, stream) for obj in scene.objects]
    image = _background(colors, stream).astype(np.float32)
    for obj, coverage, color in zip(scene.objects, scene.coverages, colors):
        rows, columns = (slice(hit.min(), hit.max() + 1) for hit in np.nonzero(coverage))
        alpha = (coverage[rows, columns] * np.float32(1 / 255))[:, :, None]  # (rows, columns, 1)
        surface = _surface(obj, color, rows, columns, stream)
        image[rows, columns] += (surface - image[rows, columns]) * alpha
    image *= _light(stream)
    return _camera(np.clip(image + 0.5, 0, 255).astype(np.uint8), stream)


def object_color(name: str, stream: RandomStream) -> Color:
    """Draw one of the RGB tints of a named color."""
    if name == "white":
        return hsv(stream.uniform(0, 360), stream.uniform(0, 0.06), stream.uniform(0.92, 1))
    hue = HUES[name] + stream.uniform(-HUE_JITTER, HUE_JITTER)
    return hsv(hue, stream.uniform(0.72, 1), stream.uniform(0.75, 1))


def hsv(hue: float, saturation: float, value: float) -> Color:
    """Return the RGB color in 0..255 of a hue in degrees and a saturation and value in 0..1."""

    def channel(offset: int) -> float:
        k = (offset + hue / 60) % 6
        return 255 * value * (1 - saturation * max(0.0, min(k, 4 - k, 1.0)))

    return channel(5), channel(3), channel(1)


def _background(objects: list[Color], stream: RandomStream) -> np.ndarray:
    """Return (64, 64, 3) uint8 without objects: colors in a pattern, then smudges, strokes and specks."""
    palette = [_background_color(objects, stream) for _ in range(3)]
    pattern = stream.choice((_gradient, _clouds, _clouds, _stripes))
    image = pattern(palette, stream)
    for _ in range(stream.integer(0, 3)):
        image = _smudge(image, objects, stream)
    tints = [object_color(name, stream) for name in stream.shuffled(COLORS)]
    for _ in range(stream.integer(0, 7)):  # each tint once: two strokes of one color might look like a cross
        _stroke(image, tints.pop() if stream.chance(0.5) else stream.choice(palette), stream)
    for _ in range(stream.integer(0, 14) if stream.chance(0.5) else 0):
        x, y, side = stream.integer(0, 63), stream.integer(0, 63), stream.integer(1, 2)
        image[y : y + side, x : x + side] = object_color(stream.choice(COLORS), stream)
    return image


def _background_color(objects: list[Color], stream: RandomStream) -> Color:
    """Draw a color, muted or as saturated as an object's, that contrasts with all objects of the scene."""
    for _ in range(20):
        saturation = stream.uniform(0, 0.35) if stream.chance(0.6) else stream.uniform(0.35, 1)
        color = hsv(stream.uniform(0, 360), saturation, stream.uniform(0.08, 0.95))
        if all(_distance(color, other) >= COLOR_CONTRAST for other in objects):
            return color
    return hsv(stream.uniform(0, 360), 0.2, stream.uniform(0.05, 0.3))  # dark gray is far from all eight colors


def _distance(a: Color, b: Color) -> float:
    return sum((x - y) * (x - y) for x, y in zip(a, b)) ** 0.5


def _ramp(stream: RandomStream) -> np.ndarray:
    """Return (64, 64) values in about -0.7..0.7 that increase in a random direction."""
    cosine, sine = cos_sin(stream.integer(0, 359))
    position = (CENTERS - IMAGE_SIZE / 2) / IMAGE_SIZE
    return position[None, :] * cosine + position[:, None] * sine


def _mix(weight: np.ndarray, palette: list[Color]) -> np.ndarray:
    """Blend the first two colors; `weight` (64, 64) in 0..1 is that of the second. Return (64, 64, 3) uint8."""
    first, second = np.array(palette[0]), np.array(palette[1])
    return np.floor(first + (second - first) * weight[:, :, None] + 0.5).astype(np.uint8)


def _gradient(palette: list[Color], stream: RandomStream) -> np.ndarray:
    """Fade from one color to another."""
    return _mix(np.clip(_ramp(stream) + 0.5, 0, 1), palette)


def _clouds(palette: list[Color], stream: RandomStream) -> np.ndarray:
    """Blend the colors in soft blobs."""
    cells = stream.integer(2, 7)
    grid = np.array([[stream.choice(palette) for _ in range(cells)] for _ in range(cells)])
    size = (IMAGE_SIZE, IMAGE_SIZE)
    return cv2.resize(np.floor(grid).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR_EXACT)


def _stripes(palette: list[Color], stream: RandomStream) -> np.ndarray:
    """Alternate two colors in soft or sharp bands."""
    return _mix(0.5 + 0.5 * _wave(_ramp(stream) * IMAGE_SIZE, stream.uniform(5, 24), stream.uniform(1, 4)), palette)


def _wave(position: np.ndarray, period: float, sharpness: float) -> np.ndarray:
    """Return a triangle wave in -1..1, clipped toward a square wave for a sharpness above 1."""
    phase = position / period
    triangle = np.abs(phase - np.floor(phase) - 0.5) * 4 - 1
    return np.clip(triangle * sharpness, -1, 1)


def _smudge(image: np.ndarray, objects: list[Color], stream: RandomStream) -> np.ndarray:
    """Return the image with a soft, elongated spot in the color of a class, so that color alone marks no object."""
    color = object_color(stream.choice(COLORS), stream)
    if any(_distance(color, other) < COLOR_CONTRAST for other in objects):
        return image
    cosine, sine = cos_sin(stream.integer(0, 359))
    x = (CENTERS - stream.uniform(0, IMAGE_SIZE))[None, :]
    y = (CENTERS - stream.uniform(0, IMAGE_SIZE))[:, None]
    length = stream.uniform(8, 26)
    along, across = (x * cosine + y * sine) / length, (y * cosine - x * sine) / (length * stream.uniform(0.25, 0.5))
    share = np.clip(1 - along * along - across * across, 0, 1)[:, :, None] * stream.uniform(0.6, 1)
    return np.floor(image + (np.array(color) - image) * share + 0.5).astype(np.uint8)


def _stroke(image: np.ndarray, color: Color, stream: RandomStream) -> None:
    """Draw an open, bent line in place: too thin for an object, too open for a form."""
    x, y = stream.uniform(-8, 72), stream.uniform(-8, 72)
    heading, points = stream.integer(0, 359), [(x, y)]
    for _ in range(stream.integer(1, 3)):
        cosine, sine = cos_sin(heading)
        length = stream.uniform(10, 34)
        x, y, heading = x + length * cosine, y + length * sine, heading + stream.integer(-50, 50)
        points.append((x, y))
    outline = stroke_outline(np.array(points), stream.uniform(1, 2.4))
    low = np.clip(outline.min(0), 0, IMAGE_SIZE).astype(int)
    high = np.clip(outline.max(0) + 1, 0, IMAGE_SIZE).astype(int)
    if (high > low).all():
        box = image[low[1] : high[1], low[0] : high[0]]
        share = polygon_coverage([outline - low], *box.shape[:2])[:, :, None] / 255
        box[:] = np.floor(box + (np.array(color) - box) * share + 0.5)


def _surface(obj: ShapeObject, color: Color, rows: slice, columns: slice, stream: RandomStream) -> np.ndarray:
    """Return the shaded and textured surface of an object within a box of the image, (rows, columns, 3) float32."""
    x = (CENTERS[columns] - obj.center[1])[None, :]
    y = (CENTERS[rows] - obj.center[0])[:, None]
    cosine, sine = cos_sin(obj.degrees + stream.integer(0, 359))
    along, across = x * cosine + y * sine, y * cosine - x * sine
    shade = 1 + stream.uniform(0, 0.3) / obj.diameter * along
    depth = stream.uniform(0.2, 0.45)
    period = max(3.0, obj.diameter * stream.uniform(0.18, 0.35))
    if obj.texture == "striped":
        shade = shade - depth * (0.5 + 0.5 * _wave(along, period, 2.5))
    elif obj.texture == "dotted":
        dots = _wave(along, period, 1) + _wave(across, period, 1)
        shade = shade - depth * np.clip(dots * 2 - 0.5, 0, 1)
    elif obj.texture == "speckled":
        shade = shade - depth * (stream.bytes(*shade.shape) / 255)
    return (shade[:, :, None] * np.array(color)).astype(np.float32)


def _light(stream: RandomStream) -> np.ndarray:
    """Return (64, 64, 3) float32 factors: brightness, a tint, and a falloff across the scene."""
    brightness = stream.uniform(0.65, 1.1)
    tint = np.array([stream.uniform(1 - TINT, 1 + TINT) for _ in range(3)])
    falloff = 1 + stream.uniform(0, 0.5) * _ramp(stream)
    return (falloff[:, :, None] * (brightness * tint)).astype(np.float32)


def _camera(image: np.ndarray, stream: RandomStream) -> np.ndarray:
    """Return the image as a sensor would record it: sometimes out of focus, always with some noise."""
    if stream.chance(0.25):
        image = cv2.blur(image, (3, 3))
    strength = stream.integer(2, 40)
    noise = stream.bytes(2, *image.shape).astype(np.int32).sum(0) - 255  # triangular, standard deviation 104
    return np.clip(image + ((noise * strength) >> 8), 0, 255).astype(np.uint8)
