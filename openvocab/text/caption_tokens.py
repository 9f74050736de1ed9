"""Token-level embeddings of captions."""

from collections.abc import Callable
from functools import partial

import torch
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor

from openvocab.structures import TextTokens
from openvocab.text.prompt_tokenizer import PromptTokenizer
from openvocab.text.text_tower import ignores_padding, project


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
