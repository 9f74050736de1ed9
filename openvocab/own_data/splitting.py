"""Split off images for validation: the same ones on every machine, and mostly the same after images are added."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from openvocab.datasets.files.folder_walk import normal_key
from openvocab.own_data.parts import OwnData, Part, Task
from openvocab.registry import DATASETS

VAL_FRACTION = 0.2
MIN_IMAGES = 2


def split_keys(keys: Sequence[str], fraction: float = VAL_FRACTION) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the keys for training and those for validation, both in the given order.

    The order of the hashes of the keys decides, so that it depends neither on the order of files nor on a seed.

    Raises:
        ValueError: fewer than two keys.
    """
    if len(keys) < MIN_IMAGES:
        raise ValueError(f"{len(keys)} labeled images cannot be split into training and validation; label more")
    count = max(1, round(fraction * len(keys)))
    chosen = set(sorted(keys, key=lambda key: sha256(key.encode()).digest())[:count])
    return tuple(key for key in keys if key not in chosen), tuple(key for key in keys if key in chosen)


def with_validation(data: OwnData, task: Task) -> tuple[OwnData, str]:
    """Return data that has a part for validation, and a line that states how it got one ("" if it had one)."""
    if "val" in data.parts:
        return data, ""
    part = data.parts["train"]
    train, val = split_keys(labeled_keys(data, "train", task))
    parts = {"train": replace(part, keys=train), "val": replace(part, keys=val)}
    line = (
        f"{data.source} has no validation images: {len(val)} of {len(train) + len(val)} are split off, the same ones "
        "every time"
    )
    return replace(data, parts={**parts, **{name: data.parts[name] for name in data.parts if name == "test"}}), line


def labeled_keys(data: OwnData, part: str, task: Task) -> list[str]:
    """Return the keys of the labeled images of a part: paths below its folder without extension."""
    with tempfile.TemporaryDirectory() as folder:
        changes = {"keep_empty": True} if task == "detection" else {}
        dataset = DATASETS.build(data.dataset(part, task, Path(folder), test_mode=True, **changes))
        items = [dataset.item(index) for index in range(len(dataset))]
    return [key_of(Path(item["img_path"]), data.parts[part]) for item in items]


def key_of(image: Path, part: Part) -> str:
    """Return the key of an image of a part."""
    path = image.relative_to(part.images)
    return normal_key(path.parent / path.stem)
