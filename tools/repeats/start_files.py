"""Weights that a config starts from and that another config's repeated training left, of the same seed."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from repeats.seed_run import read_record

PLACES = ("model", "teacher", "train_dataloader", "val_dataloader", "test_dataloader", "load_from")
"""Settings of a config that name weights, at any depth."""


def start_files(config: Config, earlier: Path, seed: int) -> dict[str, str]:
    """Return the settings of a config that name a file of another one's training, with the file of a seed instead.

    Args:
        earlier: work dir of the other config's `tools/repeat.py`. A config names its files by the default place,
            `work_dirs/<name of the other config>/last.pth`.

    Returns:
        `{"model.backbone.pretrained": "<earlier>/seed_0/last.pth", ...}`

    Raises:
        FileNotFoundError: the seed is not trained there, or has left no such file.
        ValueError: no setting names a file of that training.
    """
    record = read_record(earlier / f"seed_{seed}")
    if "train" not in record:
        raise FileNotFoundError(f"--after {earlier}: seed {seed} is not trained there; repeat that config first")
    place = Path("work_dirs") / Path(record["config"]).stem
    settings = text_settings({key: config[key] for key in PLACES if config.get(key) is not None})
    names = {key: Path(text).name for key, text in settings if Path(text).parent == place}
    if not names:
        raise ValueError(f"--after {earlier}: no setting of the config names a file in {place}")
    files = {key: earlier / f"seed_{seed}" / name for key, name in names.items()}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"--after {earlier}: no such file: {file}")
    return {key: str(file) for key, file in files.items()}


def text_settings(node: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield `("model.backbone.pretrained", text)` for every text at any depth of a config."""
    if isinstance(node, str):
        yield place, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from text_settings(value, f"{place}.{key}" if place else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from text_settings(value, f"{place}.{index}")
