"""Reading configs in tests: the repository's files, without the weights they start from."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.py"))


def without_weights(part: Any) -> Any:
    """Copy a config part with every `pretrained` set to None: random weights of the same shapes."""
    if isinstance(part, dict):
        return {key: None if key == "pretrained" else without_weights(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(without_weights(value) for value in part)
    return part


def typed_parts(part: Any, place: str = "") -> Iterator[tuple[str, dict]]:
    """Yield (where, dict) for every dict with a `type`, at any depth."""
    if isinstance(part, dict):
        if "type" in part:
            yield place, part
        for key, value in part.items():
            yield from typed_parts(value, f"{place}.{key}" if place else str(key))
    elif isinstance(part, (list, tuple)):
        for index, value in enumerate(part):
            yield from typed_parts(value, f"{place}[{index}]")


def load(path: Path) -> Config:
    return Config.fromfile(str(path))
