"""Reading configs in tests: the repository's files, without the weights they start from."""

from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.py"))


def without_weights(part: Any) -> Any:
    """Copy a config part with every `pretrained` set to None: random weights of the same shapes."""
    if isinstance(part, dict):
        return {key: None if key == "pretrained" else without_weights(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(without_weights(value) for value in part)
    return part
