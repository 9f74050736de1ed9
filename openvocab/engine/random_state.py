"""The random number generators of a process, as plain values."""

import logging
import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log


def random_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators (CPU and every CUDA device)."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(states: list[dict[str, Any]]) -> None:
    """Set this process's generators to its entry of `states`, one a rank.

    A run resumed with more ranks than before keeps fresh generators where there is no entry, and says so.
    """
    rank = get_rank()
    if rank >= len(states):
        print_log(
            f"no random state was saved for rank {rank}: it starts afresh", logger="current", level=logging.WARNING
        )
        return
    set_random_state(states[rank])


def set_random_state(state: dict[str, Any]) -> None:
    """Set this process's generators to what `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
