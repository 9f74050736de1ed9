"""Reading configs in tests: the repository's files, without the weights they start from, and without a network."""

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from tiny_bert import numbered_vocabulary

REPOSITORY = Path(__file__).resolve().parents[1]
BERT = "hf-hub:google-bert/bert-base-uncased"
CONFIGS = sorted((REPOSITORY / "configs").glob("*.py"))


def without_weights(part: Any) -> Any:
    """Copy a config part with every `pretrained` set to None: random weights of the same shapes."""
    if isinstance(part, dict):
        part = with_local_tokenizers(part)
        return {key: None if key == "pretrained" else without_weights(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(without_weights(value) for value in part)
    return part


def with_local_tokenizers(part: dict[str, Any]) -> dict[str, Any]:
    """Copy a config part with every tokenizer of the hub, at any depth, replaced by one of as many words."""
    return {
        key: with_local_tokenizers(value)
        if isinstance(value, dict)
        else str(_tokenizer())
        if key == "tokenizer" and value == BERT
        else value
        for key, value in part.items()
    }


@cache
def _tokenizer() -> Path:
    special = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103}
    return numbered_vocabulary(Path(tempfile.mkdtemp()), special, 30522)
