"""An open_clip text tower, run on no more tokens than its prompts have."""

from collections.abc import Iterator

import torch
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from openvocab.checkpoint.weights_digest import weights_digest
from openvocab.layers.clip_attention import run_block
from openvocab.text.prompt_tree import PromptTree, encode_tree, has_plain_blocks, similar_first

SMALLEST_CHUNK = 8
"""Chunks of equal length are filled up to this: matrix products of very few rows use other kernels, whose last bits
differ. Above it a prompt's embedding was measured not to depend on the prompts beside it."""


def encode_tokens(tower: nn.Module, tokens: Tensor, lengths: Tensor, batch_size: int, exact_lengths: bool) -> Tensor:
    """Encode prompts in chunks of similar length, each at the context of its longest prompt.

    Where nothing after the end token can reach it, the cut changes rounding only (below 1e-5). Other towers get the
    full context.

    Args:
        tower: `text` part of an open_clip model.
        tokens: (N, context) ids.
        lengths: (N,) tokens of each prompt, end included.
        batch_size: prompts in a chunk.
        exact_lengths: put only prompts of equal length in a chunk: no padding at all, and an embedding that does not
            depend on its neighbors; more and smaller chunks.

    Returns:
        (N, D) projected, not normalized.
    """
    cut = ignores_padding(tower)
    order = lengths.argsort(stable=True)
    done, embeds = [], []
    for index in _chunks(order, tokens, lengths, batch_size, exact_lengths and cut):
        context = int(lengths[index].max()) if cut else tokens.shape[1]
        embeds.append(_encode_chunk(tower, tokens[index, :context], exact_lengths))
        done.append(index)
    return torch.cat(embeds)[torch.cat(done).argsort().to(embeds[0].device)]  # (N, D) in the order given


def encode_states(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """Return the states after the last norm, (n, context, C), of a tower that ignores padding.

    The tower's own forward takes the full context only.
    """
    context = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    embed = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:context].to(dtype)
    return tower.ln_final(_run_blocks(tower, embed, _attention_bias(tower, tokens, dtype)))


def ignores_padding(tower: nn.Module) -> bool:
    """Say whether tokens after the end token cannot change a prompt's embedding."""
    return is_causal(tower) or (_pools_the_end(tower) and tower.attn_mask is None and tower.use_pad_mask)


def is_causal(tower: nn.Module) -> bool:
    """Say whether no token can change the states of those before it, and the embedding is that of the end token."""
    return _pools_the_end(tower) and tower.attn_mask is not None


def _pools_the_end(tower: nn.Module) -> bool:
    return isinstance(tower, TextTransformer) and tower.cls_emb is None and tower.pool_type in ("argmax", "eos")


def tower_digest(tower: nn.Module) -> str:
    """Return SHA-256 of everything that the tower computes with: layers, activation, heads and every weight."""
    facts = [getattr(tower, name, None) for name in ("heads", "pool_type", "eos_id", "pad_id", "context_length")]
    attention = is_causal(tower) or ("padding masked" if ignores_padding(tower) else False)
    return weights_digest(tower.state_dict(), repr((facts, attention, tower)))


def weights_version(tower: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return what changes, at no cost, whenever a weight is written or replaced in the ordinary ways.

    Writes through `.data` escape it.
    """
    return tuple((value.data_ptr(), 0 if value.is_inference() else value._version) for value in tower.parameters())


def _chunks(order: Tensor, tokens: Tensor, lengths: Tensor, batch_size: int, exact_lengths: bool) -> Iterator[Tensor]:
    """Yield indices of prompts of similar length, or of equal length with equal beginnings side by side."""
    if not exact_lengths:
        yield from order.split(batch_size)
        return
    _, counts = lengths[order].unique_consecutive(return_counts=True)
    for same_length in order.split(counts.tolist()):
        context = int(lengths[same_length[0]])
        yield from same_length[similar_first(tokens[same_length, :context])].split(batch_size)


def _encode_chunk(tower: nn.Module, tokens: Tensor, fill_up: bool) -> Tensor:
    """Encode (n, context) ids to (n, D)."""
    count = len(tokens)
    if fill_up and count < SMALLEST_CHUNK:
        tokens = torch.cat([tokens, tokens[:1].expand(SMALLEST_CHUNK - count, -1)])
    share = fill_up and _can_share(tower, tokens)
    tokens = tokens.to(next(tower.parameters()).device, non_blocking=True)
    if share:
        embed = project(tower, tower.ln_final(encode_tree(tower, PromptTree(tokens))))
    elif ignores_padding(tower):
        embed = _encode_cut(tower, tokens)
    else:
        output = tower(tokens)
        embed = output[0] if isinstance(output, tuple) else output
    return embed[:count]


def _can_share(tower: TextTransformer, tokens: Tensor) -> bool:
    """Say whether `PromptTree` applies: known blocks, no gradient, and no end token inside a prompt."""
    if not is_causal(tower) or not has_plain_blocks(tower) or torch.is_grad_enabled():
        return False
    ends = tokens.argmax(1) if tower.pool_type == "argmax" else (tokens == tower.eos_id).int().argmax(1)
    return bool((ends == tokens.shape[1] - 1).all())


def _encode_cut(tower: TextTransformer, tokens: Tensor) -> Tensor:
    embed = encode_states(tower, tokens)
    return project(tower, text_global_pool(embed, tokens, pool_type=tower.pool_type, eos_token_id=tower.eos_id))


def project(tower: TextTransformer, pooled: Tensor) -> Tensor:
    """Map states (..., C) to the joint space, (..., D)."""
    if tower.text_projection is None:
        return pooled
    if isinstance(tower.text_projection, nn.Linear):
        return tower.text_projection(pooled)
    return pooled @ tower.text_projection


def _attention_bias(tower: TextTransformer, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Return what is added to the scores: (context, context) of a causal tower, else (n, 1, 1, context)."""
    context = tokens.shape[1]
    if tower.attn_mask is not None:
        return tower.attn_mask[:context, :context]
    padding = (tokens == tower.pad_id)[:, None, None]
    return torch.zeros(padding.shape, dtype=dtype, device=tokens.device).masked_fill(padding, -torch.inf)


def _run_blocks(tower: TextTransformer, embed: Tensor, bias: Tensor) -> Tensor:
    """Run all blocks on (n, context, width) with the attention that is fast in half precision on CPUs too."""
    if not has_plain_blocks(tower):
        if bias.ndim == 4:
            bias = bias.expand(-1, tower.heads, embed.shape[1], -1).flatten(0, 1)
        return tower.transformer(embed, attn_mask=bias)
    for block in tower.transformer.resblocks:
        embed = run_block(block, embed, bias)
    return embed
