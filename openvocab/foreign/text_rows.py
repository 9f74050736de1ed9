"""Rows of a classifier from a text tower of transformers."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.structures import TextFeatures
from openvocab.text.templates import fill_template
from openvocab.vocabulary.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

PROMPTS_AT_ONCE = 256


def text_rows(
    vocabulary: Vocabulary, templates: Sequence[str], encode: Callable[[list[str]], Tensor], normalize: bool = True
) -> TextFeatures:
    """Return one row per class, or one per name where the best-matching name decides.

    Args:
        vocabulary: K classes; `synonym_merge` says whether the rows of a class are averaged or compete.
        templates: sentences; the rows of a name in all of them are averaged.
        encode: maps prompts to embeddings (P, D).
        normalize: give prompts, names and classes unit norm. Without it, embeddings are averaged as they are, for
            networks that read the norm, too.
    """
    norm = (lambda rows: F.normalize(rows, dim=-1)) if normalize else (lambda rows: rows)
    names = [name for synonyms in vocabulary.synonyms for name in synonyms]
    prompts = [fill_template(template, name) for name in names for template in templates]
    parts = [encode(prompts[start : start + PROMPTS_AT_ONCE]) for start in range(0, len(prompts), PROMPTS_AT_ONCE)]
    embed = norm(torch.cat(parts).float()).unflatten(0, (len(names), len(templates)))  # (R, T, D)
    rows = norm(embed.mean(dim=1))  # (R, D)
    counts = [len(synonyms) for synonyms in vocabulary.synonyms]
    row_class = None
    if vocabulary.synonym_merge == "max":
        row_class = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)).to(rows.device)
    else:
        rows = norm(torch.stack([group.mean(0) for group in rows.split(counts)]))  # (K, D)
    scale = torch.ones((), device=rows.device)
    return TextFeatures(rows, scale, row_class, vocabulary.background)


def tokenize(tokenizer: Any, prompts: list[str], context: int, device: torch.device) -> dict[str, Tensor]:
    """Return `input_ids` and `attention_mask` (P, L) int64 of prompts, padded to the longest one.

    Args:
        tokenizer: of transformers.
        prompts: P texts.
        context: largest number of tokens, start and end included; a longer prompt is cut, with a warning.
        device: of the result.
    """
    for prompt, ids in zip(prompts, tokenizer(prompts)["input_ids"]):
        if len(ids) > context:
            logger.warning(f"a prompt of {len(ids)} tokens was cut to {context}; it begins {prompt[:60]!r}")
    tokens = tokenizer(prompts, padding=True, truncation=True, max_length=context, return_tensors="pt")
    return {name: tokens[name].to(device) for name in ("input_ids", "attention_mask")}
