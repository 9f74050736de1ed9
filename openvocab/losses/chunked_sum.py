"""Sums over all pairs without an array of all pairs: a chunk of rows at a time, recomputed in the backward pass."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from openvocab.layers.recompute import recompute


def chunks(length: int, chunk_size: int) -> Iterator[slice]:
    """Yield slices of at most `chunk_size` that cover 0 to `length`.

    Raises:
        ValueError: a chunk size below 1.
    """
    if chunk_size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {chunk_size}")
    for start in range(0, length, chunk_size):
        yield slice(start, min(start + chunk_size, length))


def sum_over_chunks(part: Callable[[slice], Tensor], length: int, chunk_size: int) -> Tensor:
    """Return the sum () of `part(chunk)` over the chunks of `length` rows, holding one chunk at a time.

    Args:
        part: returns the sum () over a chunk of rows. It must not draw random numbers or communicate with other ranks,
            because the backward pass runs it again.
        length: number of rows.
        chunk_size: rows per chunk.
    """
    return torch.stack([recompute(part, chunk, draws=False) for chunk in chunks(length, chunk_size)]).sum(0)


def at_least_float32(*tensors: Tensor) -> list[Tensor]:
    """Return tensors (...) in one type of 32 bits or more, since sums of exponentials overflow smaller ones."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]
