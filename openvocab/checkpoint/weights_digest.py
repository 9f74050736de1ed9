"""One number that tells whether two sets of weights are the same."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(state: Mapping[str, Tensor], facts: str = "") -> str:
    """Return the SHA-256 of names, types, shapes and every bit of a state dict; the order does not matter.

    Args:
        state: the weights.
        facts: what the network does with them, hashed too.
    """
    digest = hashlib.sha256(facts.encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
