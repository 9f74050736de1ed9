"""GLIP-T on a photo of 800 x 1333 pixels against the official order of its operations in plain torch."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import largest_relative_error
from benchmarks.plain_glip import levels_of, outputs_of
from openvocab.backbones.swin import SwinBackbone
from openvocab.heads.glip import GLIPHead

SIZE = (800, 1344)
"""Padded."""
NETWORK: dict[str, Any] = dict(pyramid=dict(layers=(2, 3, 4), extra_levels=2, extra="retinanet"), tower={})
BACKBONE: dict[str, Any] = {}
TEXT_DIM, FULL_PROMPT = 768, 256
TOKENS = 200
"""Of COCO's 80 names with their separators; BERT has run before."""
CHUNK_TOKENS, CHUNKS = 130, 31
"""Of 40 names of LVIS, and their number for its 1203."""


@dataclass
class Network:
    """Backbone and head, as a model holds them."""

    backbone: SwinBackbone
    head: GLIPHead


def prepare(tokens: int = TOKENS, chunks: int = 1, device: str = "cpu") -> Sides:
    """Compare the way from a normalized image to the raw outputs of all prompts.

    The official evaluation passes the whole network for each prompt; the plain side does so once, as its share of the
    work. Ours computes backbone and pyramid once for all prompts. The error is that of the first prompt's outputs.
    """
    network = random_network(device)
    packed = deepcopy(network)
    packed.backbone.pack_linears()
    packed.head.pack_linears()
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, *SIZE, generator=generator).to(device)
    texts = torch.randn(chunks, tokens, TEXT_DIM, generator=generator).to(device)

    @torch.inference_mode()
    def peer() -> tuple[Tensor, ...]:
        filled = torch.nn.functional.pad(texts[:1], (0, 0, 0, FULL_PROMPT - tokens))
        is_token = torch.arange(FULL_PROMPT, device=device)[None] < tokens
        logits, *others = outputs_of(network.head, levels_of(network, image), filled, is_token)
        return logits[..., :tokens], *others

    @torch.inference_mode()
    def ours() -> tuple[Tensor, ...]:
        head, everything = packed.head, torch.ones(1, tokens, dtype=torch.bool, device=device)
        levels = head.decode(packed.backbone(image, head.layers))
        found = [head.locations(levels, text[None], everything) for text in texts]
        return found[0].token_logits, found[0].offsets, found[0].centerness

    return Sides(peer, ours, largest_relative_error, peer_scale=chunks)


def prepare_chunks(device: str = "cpu") -> Sides:
    """Compare the same for all names of LVIS."""
    return prepare(CHUNK_TOKENS, CHUNKS, device)


def random_network(device: str) -> Network:
    """Build GLIP-T with random weights, ready to predict."""
    torch.manual_seed(0)
    backbone = SwinBackbone(**BACKBONE)
    head = GLIPHead(backbone.spec, TEXT_DIM, **NETWORK)
    return Network(backbone.eval().to(device), head.eval().to(device))


ROWS = (
    Row(
        "glip_80_names",
        1.0,
        prepare,
        products="float32",
        repeats=3,
        note="an image and one prompt of 80 names; plain torch in the official order, filled to 256 tokens",
        on_cuda=True,
    ),
    Row(
        "glip_1203_names",
        1.0,
        prepare_chunks,
        products="float32",
        repeats=1,
        note="31 prompts of 40 names; the official order passes the whole network for each (one of 31 timed)",
        on_cuda=True,
    ),
)
