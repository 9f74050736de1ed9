"""Conversion of BERT weights to the names of transformers' `BertModel` without its pooler."""

import re
from collections.abc import Mapping

from torch import Tensor

GLIP_PREFIX = "language_backbone.body.model."
_PREFIX = re.compile(rf"^(?:module\.)?(?:{re.escape(GLIP_PREFIX)}|bert\.)?")
_TOWER = ("embeddings.", "encoder.")
_OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
_CONSTANTS = ("embeddings.position_ids", "embeddings.token_type_ids")


def bert_tower(state_dict: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """Return the weights of BERT's embeddings and layers, as float32.

    The pooler, the heads of the pretraining and constants are left out, and so are all other parts of a GLIP.

    Args:
        state_dict: of a BERT of transformers (any version, with or without the prefix `bert.`), or of an official GLIP.
        prefix: put before each name: `text_encoder.bert.` for an `OpenVocabModel` with a `BERTTextEncoder`.

    Raises:
        ValueError: it contains no BERT.
    """
    tower = {}
    for key, value in state_dict.items():
        name = _PREFIX.sub("", key)
        for old, new in _OLD_NAMES:
            name = name.replace(old, new)
        if name.startswith(_TOWER) and name not in _CONSTANTS:
            tower[prefix + name] = value.float()
    if not tower:
        raise ValueError(f"no BERT: {', '.join(list(state_dict)[:4]) or 'no entries'}")
    return tower
