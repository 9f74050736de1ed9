"""The weights that a config starts from, replaced by those of the same seed from another config's repeated training."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from repeats.seed_run import read_record

WEIGHT_KEYS = ("model", "teacher", "train_dataloader", "val_dataloader", "test_dataloader", "load_from")
"""Top-level keys of a config below which settings may name files of weights."""


def start_files(config: Config, earlier: Path, seed: int) -> dict[str, str]:
    """Return the settings of a config that name a file of another config's training, with the file of a seed instead.

    Args:
        config: names files of the other config's training by the default path,
            `work_dirs/<name of the other config>/last.pth`.
        earlier: work dir of `tools/repeat.py` for the other config.
        seed: whose files are returned.

    Returns:
        `{"model.backbone.pretrained": "<earlier>/seed_0/last.pth", ...}`

    Raises:
        FileNotFoundError: the seed is not trained there, or its training has not written such a file.
        ValueError: no setting names a file of that training.
    """
    record = read_record(earlier / f"seed_{seed}")
    if "train" not in record:
        raise FileNotFoundError(f"--after {earlier}: seed {seed} is not trained there; repeat that config first")
    default_folder = Path("work_dirs") / Path(record["config"]).stem
    settings = text_settings({key: config[key] for key in WEIGHT_KEYS if config.get(key) is not None})
    names = {key: Path(text).name for key, text in settings if Path(text).parent == default_folder}
    if not names:
        raise ValueError(f"--after {earlier}: no setting of the config names a file in {default_folder}")
    files = {key: earlier / f"seed_{seed}" / name for key, name in names.items()}
    for file in files.values():
        if not file.is_file():
            raise FileNotFoundError(f"--after {earlier}: no such file: {file}")
    return {key: str(file) for key, file in files.items()}


def text_settings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield `("model.backbone.pretrained", text)` for every string at any depth of a config."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, Mapping):
        for key, value in node.items():
            yield from text_settings(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from text_settings(value, f"{path}.{index}")
