"""Hash weights, to find out whether two sets of them are equal."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_digest(state: Mapping[str, Tensor], facts: str = "") -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bits of a state dict, in any order.

    Args:
        state: the weights.
        facts: a description of what the network does with them, which is hashed too.
    """
    digest = hashlib.sha256(facts.encode())
    for name, value in sorted(state.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
