"""Samples as a training sees them: read, resized, cropped and flipped by the pipeline of the config."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvocab.datasets.transforms.results import Packed
from openvocab.own_data.parts import OwnData, Task
from openvocab.own_data.splitting import with_validation
from openvocab.own_data.training_config import HEADS, training_config
from openvocab.registry import DATASETS
from openvocab.seeding import DrawIndex


def training_samples(data: OwnData, task: Task, part: str, count: int, folder: Path) -> list[Packed]:
    """Return samples of a part, evenly spaced through it; those of `train` after augmentation.

    Args:
        data: with names.
        task: what it is used for.
        part: `train`, `val` or `test`.
        count: number of samples, at most those that there are.
        folder: where lists of images are written.

    Raises:
        ValueError: no such part.
    """
    data, _ = with_validation(data, task)
    if part not in data.parts:
        raise ValueError(f"--part {part}: {data.source} has no such part; expected {' or '.join(data.parts)}")
    head = next(head for head, (_, purpose) in HEADS.items() if purpose == task)
    config = training_config(data, head, folder)
    arguments: dict[str, Any] = config["train_dataloader"]["dataset"].to_dict()
    if part != "train":
        arguments.update(data.dataset(part, task, folder))
        arguments["pipeline"] = [step for step in arguments["pipeline"] if _only_reads(step)]
    dataset = DATASETS.build(arguments)
    chosen = sorted({round(at * len(dataset) / count) for at in range(count)} & {*range(len(dataset))})
    return [dataset[DrawIndex(index, seed=index)] for index in chosen]


def _only_reads(step: Mapping[str, Any]) -> bool:
    """Return whether a transform changes nothing: the labels of a test are in the frame of the file."""
    kind = step["type"]
    name = kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__
    return name in ("LoadImage", "LoadLabels", "LoadInstances", "PackSample")
