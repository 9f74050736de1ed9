"""Plan a Shapes dataset: its images, the labels of each, and the classes in each."""

from collections.abc import Sequence
from dataclasses import dataclass

from openvocab.datasets.shapes.classes import CLASS_NAMES, SEEN, UNSEEN
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.scene import Scene, sample_scene

FORMAT = 3
"""Incremented whenever the same parameters give different files."""
SPLITS = {"train": 0, "val": 1, "objects": 2}
MAX_OBJECTS = 5
SINGLE_SIZES = (16.0, 44.0)
"""Diameters in pixels of the single objects for classification."""


@dataclass(frozen=True)
class ShapesParameters:
    """The parameters that determine every byte of the dataset.

    Raises:
        ValueError: a negative number.
    """

    seed: int = 0
    num_train: int = 12_000
    num_val: int = 500
    objects_per_class: int = 10
    format: int = FORMAT

    def __post_init__(self) -> None:
        for name in ("seed", "num_train", "num_val", "objects_per_class"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")


@dataclass(frozen=True)
class Picture:
    """One image file to be drawn; paths are relative to the dataset's root."""

    split: str
    """Key of `SPLITS`."""
    index: int
    """Within its split."""
    path: str
    label_paths: tuple[str, ...] = ()
    """Where its label map is written."""
    instance_files: tuple[str, ...] = ()
    """The annotation files that list its objects."""
    seen_only: bool = False
    """Whether it belongs to the dense part of train, where every object is of a seen class."""


def plan(parameters: ShapesParameters) -> list[Picture]:
    """Return all images of the dataset in order."""
    return [*_train(parameters), *_val(parameters), *_single_objects(parameters)]


def _train(parameters: ShapesParameters) -> list[Picture]:
    """Give the first half the dense labels, and as many, drawn from both halves, those of the oracle."""
    num_dense = parameters.num_train // 2
    order = RandomStream(parameters.seed, len(SPLITS)).shuffled(range(parameters.num_train))
    oracle = set(order[:num_dense])
    pictures = []
    for index in range(parameters.num_train):
        name, dense = f"{index + 1:06d}", index < num_dense
        parts = [part for part, is_in in (("train", dense), ("train_oracle", index in oracle)) if is_in]
        labels = tuple(f"annotations/{part}/{name}.png" for part in parts)
        instance_files = tuple(f"instances_{part}.json" for part in parts)
        pictures.append(Picture("train", index, f"images/train/{name}.jpg", labels, instance_files, dense))
    return pictures


def _val(parameters: ShapesParameters) -> list[Picture]:
    names = [f"{index + 1:06d}" for index in range(parameters.num_val)]
    return [
        Picture("val", index, f"images/val/{name}.jpg", (f"annotations/val/{name}.png",), ("instances_val.json",))
        for index, name in enumerate(names)
    ]


def _single_objects(parameters: ShapesParameters) -> list[Picture]:
    pictures = []
    for index in range(parameters.objects_per_class * len(CLASS_NAMES)):
        turn, class_id = divmod(index, len(CLASS_NAMES))
        pictures.append(Picture("objects", index, f"objects/val/{CLASS_NAMES[class_id]}/{turn + 1:04d}.jpg"))
    return pictures


def make_scene(picture: Picture, stream: RandomStream) -> Scene:
    """Sample the scene of an image: one class in turn, so that all occur equally often, and up to four at random.

    Training images outside the dense part have at least one unseen object; over all of train every class is about
    equally frequent.
    """
    everything: Sequence[int] = range(len(CLASS_NAMES))
    first: Sequence[int]
    rest: Sequence[int]
    if picture.split == "objects":
        return sample_scene(stream, [picture.index % len(CLASS_NAMES)], SINGLE_SIZES)
    if picture.split == "val":
        first, rest = everything, everything
    elif picture.seen_only:
        first, rest = SEEN, SEEN
    else:
        first, rest = UNSEEN, everything
    others = [stream.choice(rest) for _ in range(stream.integer(0, MAX_OBJECTS - 1))]
    return sample_scene(stream, [first[picture.index % len(first)], *others])
