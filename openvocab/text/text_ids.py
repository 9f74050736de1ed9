"""Integer ids of texts, by hashing."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def text_ids(texts: Sequence[str], device: torch.device | None = None) -> Tensor:
    """Return ids (N,) int64 of N texts, the same on every rank (Python's own hash differs between processes)."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return torch.tensor(
        [int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64, device=device
    )
