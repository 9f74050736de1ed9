"""What is known about a user's data once it is recognized: its parts, the kind of its labels, and its names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.files.atomic_files import replacing
from openvocab.own_data.boxes_alone import holds_boxes_alone

Task = Literal["segmentation", "detection"]
TASKS: tuple[Task, ...] = ("segmentation", "detection")
TASKS_OF: Mapping[str, tuple[Task, ...]] = {
    "label maps": ("segmentation",),
    "Pascal VOC": ("detection",),
    "boxes": ("detection",),
    "COCO": TASKS,
    "CVAT": TASKS,
    "Label Studio": TASKS,
    "labelme": TASKS,
    "YOLO": TASKS,
}
"""The kinds of labels, and what can be trained on them; outlines can be both label maps and objects."""
PARTS = ("train", "val", "test")


def kind_of_labels(kind: str) -> str:
    """Return a key of `TASKS_OF` as a noun in the plural."""
    return kind if kind == "label maps" else f"{kind} labels"


@dataclass(frozen=True)
class Part:
    """One part of the data, such as its training images."""

    images: Path
    """Folder of the images."""
    labels: Path
    """Folder or file of the labels."""
    keys: Path | tuple[str, ...] | None = None
    """The samples of the part, as a file that lists them or as keys; None: all."""


@dataclass(frozen=True)
class OwnData:
    """A user's data."""

    source: Path
    """The file or folder that the user named."""
    kind: str
    """A key of `TASKS_OF`."""
    parts: Mapping[str, Part]
    """`train`, and `val` and `test` if there are such; in this order."""
    names: Sequence[Sequence[str]] | None = None
    """Names and synonyms of each class; None: those in the labels."""
    names_file: Path | None = None
    """A data.yaml, from which a detector also reads whether keypoints follow the boxes."""
    labels: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the group `labels` of the dataset."""
    background: str | None = None
    """Name of the class that means "everything else"."""

    @property
    def name(self) -> str:
        """What the data is called: the folder, also of a `data.yaml`, which all are called; else the file."""
        source = self.source.resolve()
        if source.is_dir():
            return source.name
        return source.parent.name if source.stem == "data" else source.stem

    def task(self, purpose: Task | None = None) -> Task:
        """Return what the data can be used for.

        Args:
            purpose: what it is to be used for; None: whatever it can. Boxes alone are for detection.

        Raises:
            ValueError: the labels cannot be used for that, or for both if no purpose is given.
        """
        tasks = TASKS_OF[self.kind]
        if purpose is None and len(tasks) > 1:
            if holds_boxes_alone(self.kind, {part.labels for part in self.parts.values()}):
                return "detection"
            raise ValueError(
                f"{self.source}: {self.kind} labels can be objects or label maps; pass --task detection or --task "
                "segmentation"
            )
        if purpose is not None and purpose not in tasks:
            remedy = "--head vild trains a detector" if purpose == "segmentation" else "--head lseg trains on them"
            raise ValueError(f"{self.source}: its labels are {self.kind}, which do not fit {purpose}; {remedy}")
        return purpose or tasks[0]

    def dataset(self, part: str, task: Task, folder: Path, **changes: Any) -> dict[str, Any]:
        """Return the arguments of the dataset of a part, with its class as `type`.

        Args:
            part: a key of `parts`.
            task: what it is used for.
            folder: where the list of a part's keys is written, if no file of the user lists them.
            changes: other arguments.
        """
        chosen = self.parts[part]
        keys = (
            chosen.keys if chosen.keys is None or isinstance(chosen.keys, Path) else _write(chosen.keys, part, folder)
        )
        kind = SegmentationDataset if task == "segmentation" else DetectionDataset
        arguments: dict[str, Any] = dict(
            type=kind,
            root="",
            images=str(chosen.images),
            annotations=str(chosen.labels),
            classes=self._classes(task),
            name=f"{self.name}/{part}",
        )
        if keys is not None:
            arguments["keys"] = str(keys)
        if self.labels:
            arguments["labels"] = dict(self.labels)
        if task == "segmentation" and self.background is not None:
            arguments["class_options"] = dict(background=self.background)
        return {**arguments, **changes}

    def _classes(self, task: Task) -> Any:
        if task == "detection" and self.names_file is not None:
            return str(self.names_file)
        return None if self.names is None else [list(several) for several in self.names]


def _write(keys: Sequence[str], part: str, folder: Path) -> Path:
    """Write keys into a file whose name depends on them, so that no other list is overwritten."""
    text = "".join(f"{key}\n" for key in keys)
    path = folder / f"{part}-{sha256(text.encode()).hexdigest()[:8]}.txt"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        with replacing(path) as file:
            file.write(text)
    return path
