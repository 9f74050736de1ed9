"""Build a CLIP once for both of its towers, and draw no random weights that a file replaces at once.

Only prediction may do this: a training would draw other random numbers for the parts that follow.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_WAITING: ContextVar[dict[tuple[str, ...], Any] | None] = ContextVar("towers_that_wait", default=None)


@contextmanager
def built_once() -> Iterator[None]:
    """In this block, a CLIP that was built with pretrained weights for one tower also gives the other one."""
    token = _WAITING.set({})
    try:
        yield
    finally:
        _WAITING.reset(token)


def for_one_tower(tower: str, key: tuple[str, ...], build: Callable[[], Any]) -> Any:
    """Return a CLIP of which the caller takes one tower, and which nobody else takes that tower of.

    Args:
        tower: "image" or "text".
        key: what the CLIP depends on.
        build: builds it, with weights from a file.
    """
    waiting = _WAITING.get()
    if waiting is None:
        return build()
    this, other = (tower, *key), ("text" if tower == "image" else "image", *key)
    if this in waiting:
        return waiting.pop(this)
    with _NoDrawing():
        clip = build()
    waiting[other] = clip
    return clip


class _NoDrawing(TorchFunctionMode):
    """Leave tensors as they are where a network would fill them with random numbers."""

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        return arguments[0] if function in _DRAWINGS else function(*arguments, **(options or {}))


_DRAWINGS = frozenset((torch.Tensor.normal_, torch.Tensor.uniform_, torch.Tensor.erfinv_))
"""What `torch.nn.init` and networks draw weights with; the inverse error function is a part of truncated normals."""
