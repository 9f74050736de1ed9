"""Run an open_clip text tower on no more tokens than its prompts have."""

from collections.abc import Iterator

import torch
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn

from openvocab.checkpoint.weights_digest import weights_digest
from openvocab.layers.clip_attention import run_block
from openvocab.text.prompt_tree import PromptTree, encode_tree, has_plain_blocks, lexicographic_order

MIN_CHUNK = 8
"""Chunks of prompts of equal length are padded to this size: matrix products of very few rows use other kernels, whose
last bits differ. From this size on, an embedding was measured not to depend on the other prompts of its chunk."""


def encode_tokens(tower: nn.Module, tokens: Tensor, lengths: Tensor, batch_size: int, exact_lengths: bool) -> Tensor:
    """Encode prompts in chunks of similar length, each cut to its longest prompt.

    In towers whose padding cannot affect the end token, the cut changes only rounding (less than 1e-5). Other
    towers get the full context.

    Args:
        tower: the `text` module of an open_clip model.
        tokens: (N, context) ids.
        lengths: (N,) tokens of each prompt, end included.
        batch_size: prompts per chunk.
        exact_lengths: only combine prompts of equal length. Chunks then have no padding, and an embedding does not
            depend on the other prompts, but there are more and smaller chunks.

    Returns:
        (N, D) projected, not normalized.
    """
    cut = ignores_padding(tower)
    # Similar lengths together, so that a chunk is cut to little more than each of its prompts.
    order = lengths.argsort(stable=True)
    indices, embeds = [], []
    for index in _chunks(order, tokens, lengths, batch_size, exact_lengths and cut):
        context = int(lengths[index].max()) if cut else tokens.shape[1]
        embeds.append(_encode_chunk(tower, tokens[index, :context], exact_lengths))
        indices.append(index)
    return torch.cat(embeds)[torch.cat(indices).argsort().to(embeds[0].device)]  # (N, D) in the original order


def encode_states(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """Return the states after the last norm, (n, context, C), for ids (n, context).

    Unlike the tower's own forward, it also accepts ids that are cut to less than the full context.
    """
    context = tokens.shape[1]
    dtype = tower.transformer.get_cast_dtype()
    # Positions are absolute, so a cut context uses the first positions.
    embed = tower.token_embedding(tokens).to(dtype) + tower.positional_embedding[:context].to(dtype)
    return tower.ln_final(_run_blocks(tower, embed, _attention_bias(tower, tokens, dtype)))


def ignores_padding(tower: nn.Module) -> bool:
    """Return whether tokens after the end token cannot affect a prompt's embedding."""
    return is_causal(tower) or (_pools_the_end(tower) and tower.attn_mask is None and tower.use_pad_mask)


def is_causal(tower: nn.Module) -> bool:
    """Return whether tokens only attend to earlier ones, and the embedding is that of the end token."""
    return _pools_the_end(tower) and tower.attn_mask is not None


def _pools_the_end(tower: nn.Module) -> bool:
    return isinstance(tower, TextTransformer) and tower.cls_emb is None and tower.pool_type in ("argmax", "eos")


def tower_digest(tower: nn.Module) -> str:
    """Return a SHA-256 of everything that the tower's output depends on: layers, activation, heads and all weights."""
    settings = [getattr(tower, name, None) for name in ("heads", "pool_type", "eos_id", "pad_id", "context_length")]
    attention = is_causal(tower) or ("padding masked" if ignores_padding(tower) else False)
    return weights_digest(tower.state_dict(), repr((settings, attention, tower)))


def weights_version(tower: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return a cheap value that changes when a weight is modified or replaced, except for writes through `.data`."""
    return tuple((value.data_ptr(), 0 if value.is_inference() else value._version) for value in tower.parameters())


def _chunks(order: Tensor, tokens: Tensor, lengths: Tensor, batch_size: int, exact_lengths: bool) -> Iterator[Tensor]:
    """Yield chunks of indices of prompts of similar length, or of equal length in lexicographic order."""
    if not exact_lengths:
        yield from order.split(batch_size)
        return
    _, counts = lengths[order].unique_consecutive(return_counts=True)
    for same_length in order.split(counts.tolist()):
        context = int(lengths[same_length[0]])
        yield from same_length[lexicographic_order(tokens[same_length, :context])].split(batch_size)


def _encode_chunk(tower: nn.Module, tokens: Tensor, pad_chunk: bool) -> Tensor:
    """Encode ids (n, context) to (n, D); `pad_chunk` runs small chunks at `MIN_CHUNK` prompts."""
    count = len(tokens)
    if pad_chunk and count < MIN_CHUNK:
        tokens = torch.cat([tokens, tokens[:1].expand(MIN_CHUNK - count, -1)])  # (MIN_CHUNK, context)
    use_tree = pad_chunk and _has_prefix_tree(tower, tokens)  # checked on the CPU, where the ids still are
    tokens = tokens.to(next(tower.parameters()).device, non_blocking=True)
    if use_tree:
        embed = _encode_by_prefix(tower, tokens)
    elif ignores_padding(tower):
        embed = _encode_cut(tower, tokens)
    else:
        output = tower(tokens)
        embed = output[0] if isinstance(output, tuple) else output
    return embed[:count]


def _has_prefix_tree(tower: TextTransformer, tokens: Tensor) -> bool:
    """Return whether `PromptTree` applies: a causal tower of plain blocks, no gradient, all end tokens last."""
    if not is_causal(tower) or not has_plain_blocks(tower) or torch.is_grad_enabled():
        return False
    # In CLIP's vocabulary the end token has the largest id, which is what "argmax" refers to.
    ends = tokens.argmax(1) if tower.pool_type == "argmax" else (tokens == tower.eos_id).int().argmax(1)
    return bool((ends == tokens.shape[1] - 1).all())


def _encode_by_prefix(tower: TextTransformer, tokens: Tensor) -> Tensor:
    return project(tower, tower.ln_final(encode_tree(tower, PromptTree(tokens))))


def _encode_cut(tower: TextTransformer, tokens: Tensor) -> Tensor:
    embed = encode_states(tower, tokens)
    return project(tower, text_global_pool(embed, tokens, pool_type=tower.pool_type, eos_token_id=tower.eos_id))


def project(tower: TextTransformer, pooled: Tensor) -> Tensor:
    """Project states (..., C) to the joint space, (..., D)."""
    if tower.text_projection is None:
        return pooled
    if isinstance(tower.text_projection, nn.Linear):
        return tower.text_projection(pooled)
    return pooled @ tower.text_projection


def _attention_bias(tower: TextTransformer, tokens: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mask that is added to the scores: causal (context, context), or of padding (n, 1, 1, context)."""
    context = tokens.shape[1]
    if tower.attn_mask is not None:
        # A causal mask of a shorter context is the upper left corner of the full one.
        return tower.attn_mask[:context, :context]
    padding = (tokens == tower.pad_id)[:, None, None]  # (n, 1, 1, context)
    return torch.zeros(padding.shape, dtype=dtype, device=tokens.device).masked_fill(padding, -torch.inf)


def _run_blocks(tower: TextTransformer, embed: Tensor, bias: Tensor) -> Tensor:
    """Run all blocks on (n, context, width), with `attend` if possible, which is fast in half precision on CPUs too."""
    if not has_plain_blocks(tower):
        # `nn.MultiheadAttention` takes a mask per sample and head as (n * heads, context, context).
        if bias.ndim == 4:
            bias = bias.expand(-1, tower.heads, embed.shape[1], -1).flatten(0, 1)  # (n * heads, context, context)
        return tower.transformer(embed, attn_mask=bias)
    for block in tower.transformer.resblocks:
        embed = run_block(block, embed, bias)
    return embed
