"""Captions token by token, for losses that read words."""

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
    unread: int = 0,
) -> tuple[Tensor, TextTokens]:
    """Encode captions in one pass, pooled and token by token.

    Args:
        tower: CLIP's text transformer, causal or bidirectional.
        ids: (B, context) int64, start and end included, padded.
        lengths: (B,) tokens of each caption, start and end included.
        tokenizer: what made them.
        states_of: runs the tower, (B, T) ids to (B, T, C) states.
        unread: captions at the beginning that the tower does not run on.

    Returns:
        (B - unread, D) float32 pooled embeddings, not normalized, and the tokens up to the longest caption.

    Raises:
        ValueError: a tower of another kind: its token outputs have no agreed meaning here.
    """
    if not ignores_padding(tower):
        raise ValueError(
            f"{type(tower).__name__}: token outputs are read from CLIP's text transformer only, causal or with masked "
            "padding"
        )
    device = tower.token_embedding.weight.device
    ends = lengths - 1
    special_ids = {int(ids[0, 0]), int(ids[0, ends[0]]), tokenizer.padding_id, tokenizer.mask_id}
    place = torch.arange(int(lengths.max()), device=device)
    ids = ids[:, : len(place)].to(device, non_blocking=True)  # (B, T)
    states = states_of(ids[unread:])
    pooled = text_global_pool(states, ids[unread:], pool_type=tower.pool_type, eos_token_id=tower.eos_id)
    tokens = TextTokens(
        ids=ids,
        is_word=(place > 0) & (place < ends.to(device)[:, None]),  # (B, T)
        embed=project(tower, states),
        states_of=states_of,
        project=partial(project, tower),
        table=tower.token_embedding.weight,
        mask_id=tokenizer.mask_id,
        special_ids=tuple(sorted(special_ids)),
    )
    return project(tower, pooled).float(), tokens
