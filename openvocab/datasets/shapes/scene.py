"""Sample a Shapes scene: objects placed over each other, each of them sufficiently visible."""

from dataclasses import dataclass, field

import numpy as np

from openvocab.datasets.shapes.classes import CLASS_NAMES, COLORS, FORMS
from openvocab.datasets.shapes.forms import coverage_patch
from openvocab.datasets.shapes.random_stream import RandomStream

IMAGE_SIZE = 64
SMALLEST, LARGEST = 10.0, 38.0
MIN_VISIBLE_FRACTION = 0.5
MIN_VISIBLE_PIXELS = 30
PLACEMENT_TRIES = 16
TEXTURES = ("plain", "striped", "dotted", "speckled")


@dataclass(frozen=True)
class ShapeObject:
    """One object of a scene; lengths are in pixels."""

    class_id: int
    """Index into `CLASS_NAMES`."""
    center: tuple[float, float]
    """(y, x)."""
    diameter: float
    degrees: int
    texture: str

    @property
    def color(self) -> str:
        """The name of its color."""
        return COLORS[self.class_id // len(FORMS)]

    @property
    def form(self) -> str:
        """The name of its form."""
        return FORMS[self.class_id % len(FORMS)]

    @property
    def name(self) -> str:
        """The class name, such as "red circle"."""
        return CLASS_NAMES[self.class_id]


@dataclass
class Scene:
    """Objects from back to front, and the visible object of every pixel."""

    objects: list[ShapeObject] = field(default_factory=list)
    coverages: list[np.ndarray] = field(default_factory=list)
    """(64, 64) uint8 each: fraction of the pixel that the object covers, before occlusion; 255 = fully."""
    areas: list[int] = field(default_factory=list)
    """Pixels of each complete object, including those that are hidden or outside the image."""
    owner: np.ndarray = field(default_factory=lambda: np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8))
    """(64, 64) uint8: 0 = background, i + 1 = object i is visible here."""

    def label_map(self) -> np.ndarray:
        """Return (64, 64) uint8: 0 = background, class_id + 1 = an object of that class is visible here."""
        labels = np.array([0] + [obj.class_id + 1 for obj in self.objects], np.uint8)
        return labels[self.owner]

    def visible_mask(self, index: int) -> np.ndarray:
        """Return (64, 64) bool: where object `index` is visible."""
        return self.owner == index + 1


def sample_scene(stream: RandomStream, class_ids: list[int], sizes: tuple[float, float] = (SMALLEST, LARGEST)) -> Scene:
    """Place objects of these classes at random; those for which no suitable position is found are dropped.

    Args:
        stream: source of every choice.
        class_ids: requested classes. The first is always part of the scene.
        sizes: smallest and largest nominal diameter, in pixels.
    """
    while True:
        scene = Scene()
        for class_id in stream.shuffled(class_ids):
            _add_object(scene, stream, class_id, sizes)
        if any(obj.class_id == class_ids[0] for obj in scene.objects):
            return scene


def _add_object(scene: Scene, stream: RandomStream, class_id: int, sizes: tuple[float, float]) -> None:
    """Put one object in front of the scene, or nothing if every try would hide too much of another one."""
    for _ in range(PLACEMENT_TRIES):
        u = stream.fraction()
        diameter = sizes[0] + (sizes[1] - sizes[0]) * u * (0.4 + 0.6 * u)  # small ones are more common
        margin = 0.3 * diameter
        center = (stream.uniform(margin, IMAGE_SIZE - margin), stream.uniform(margin, IMAGE_SIZE - margin))
        obj = ShapeObject(class_id, center, diameter, stream.integer(0, 359), stream.choice(TEXTURES))
        patch, corner = coverage_patch(obj.form, obj.center, obj.diameter, obj.degrees)
        coverage = _paste(patch, corner)
        owner = np.where(coverage >= 128, np.uint8(len(scene.objects) + 1), scene.owner)
        areas = [*scene.areas, int(np.count_nonzero(patch >= 128))]
        if _are_all_visible(owner, areas) and not _merges(scene, coverage, obj.color):
            scene.objects.append(obj)
            scene.coverages.append(coverage)
            scene.areas, scene.owner = areas, owner
            return


def _paste(patch: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
    """Return the patch in an otherwise empty image (64, 64), cropped at the image's border."""
    image = np.zeros((IMAGE_SIZE, IMAGE_SIZE), np.uint8)
    (top, left), side = corner, len(patch)
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + side, IMAGE_SIZE), min(left + side, IMAGE_SIZE)
    image[y0:y1, x0:x1] = patch[y0 - top : y1 - top, x0 - left : x1 - left]
    return image


def _are_all_visible(owner: np.ndarray, areas: list[int]) -> bool:
    """Return whether enough of every object is visible to recognize it."""
    visible = np.bincount(owner.ravel(), minlength=len(areas) + 1)[1:].tolist()
    return all(n >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_FRACTION * area) for n, area in zip(visible, areas))


def _merges(scene: Scene, coverage: np.ndarray, color: str) -> bool:
    """Return whether an object of the same color lies directly behind, so that no edge between them is visible."""
    covered = coverage > 0
    return any(
        obj.color == color and bool((covered & (other > 0)).any()) for obj, other in zip(scene.objects, scene.coverages)
    )
