"""Token-level embeddings of captions and prompts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor

from openvocab.structures import TextTokens
from openvocab.text.phrase_tokens import check_budget, phrases_by_pieces
from openvocab.text.prompt_tokenizer import PromptTokenizer
from openvocab.text.text_tower import ignores_padding, project
from openvocab.vocabulary.prompt import Prompt


def encode_captions(
    tower: TextTransformer,
    ids: Tensor,
    lengths: Tensor,
    tokenizer: PromptTokenizer,
    states_of: Callable[[Tensor], Tensor],
    first_encoded: int = 0,
) -> tuple[Tensor, TextTokens]:
    """Encode captions in one pass, pooled and per token.

    Args:
        tower: CLIP's text transformer, causal or bidirectional.
        ids: (B, context) int64, start and end included, padded.
        lengths: (B,) tokens of each caption, start and end included.
        tokenizer: the tokenizer of the ids.
        states_of: runs the tower, from (B, T) ids to (B, T, C) states.
        first_encoded: index of the first caption that goes through the tower.

    Returns:
        pooled embeddings (B - first_encoded, D) float32, not normalized, and the tokens, cut to the longest caption.

    Raises:
        ValueError: the tower is not of this type, so that its token outputs may depend on the padding.
    """
    if not ignores_padding(tower):
        raise ValueError(
            f"{type(tower).__name__}: token outputs need CLIP's text transformer, causal or with masked padding"
        )
    device = tower.token_embedding.weight.device
    ends = lengths - 1
    special_ids = {int(ids[0, 0]), int(ids[0, ends[0]]), tokenizer.padding_id, tokenizer.mask_id}
    position = torch.arange(int(lengths.max()), device=device)
    # The tower ignores padding, so cutting to the longest caption changes only rounding.
    ids = ids[:, : len(position)].to(device, non_blocking=True)  # (B, T)
    states = states_of(ids[first_encoded:])  # (B - first_encoded, T, C)
    pooled = text_global_pool(states, ids[first_encoded:], pool_type=tower.pool_type, eos_token_id=tower.eos_id)
    tokens = TextTokens(
        ids=ids,
        is_word=(position > 0) & (position < ends.to(device)[:, None]),  # (B, T)
        embed=project(tower, states),
        states_of=states_of,
        project=partial(project, tower),
        table=tower.token_embedding.weight,
        mask_id=tokenizer.mask_id,
        special_ids=tuple(sorted(special_ids)),
        is_token=position <= ends.to(device)[:, None],  # (B, T)
    )
    return project(tower, pooled).float(), tokens


def mark_phrases(tokens: TextTokens, prompts: Sequence[Prompt], tokenizer: PromptTokenizer) -> TextTokens:
    """Return the tokens of prompts with their phrases and owners.

    Raises:
        ValueError: see `TextEncoder.with_tokens`.
    """
    width, device = tokens.ids.shape[1], tokens.ids.device
    phrases = [phrases_by_pieces(prompt, tokenizer.word_ids)[1] for prompt in prompts]
    for prompt, masks in zip(prompts, phrases):
        check_budget(prompt, masks, tokenizer.context_length - 2)
    return replace(
        tokens,
        # (P, T): the start before, the end and the padding after the others
        phrases=[F.pad(masks, (1, width - 1 - masks.shape[1])).to(device) for masks in phrases],
        owners=[torch.tensor(prompt.owners, device=device) for prompt in prompts],
    )
