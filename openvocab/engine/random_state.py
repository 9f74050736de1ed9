"""The states of a process's random number generators, as plain values."""

import logging
import random
from typing import Any, cast

import numpy as np
import torch
from mmengine.dist import get_rank

logger = logging.getLogger(__name__)


def random_state() -> dict[str, Any]:
    """Return the state of Python's, NumPy's and torch's generators (CPU and every CUDA device)."""
    name, keys, *rest = cast("tuple[str, np.ndarray, int, int, float]", np.random.get_state())
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(states: list[dict[str, Any]]) -> None:
    """Set this process's generators to the entry of its rank in `states`.

    If a run is resumed with more ranks than before, a rank without an entry keeps its fresh generators and warns.

    Raises:
        ValueError: the entry is not a complete state.
    """
    rank = get_rank()
    if rank >= len(states):
        logger.warning(f"no random state was saved for rank {rank}: its generators are new")
        return
    try:
        set_random_state(states[rank])
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(f"the random state of rank {rank} in the checkpoint is incomplete: {error}") from error


def set_random_state(state: dict[str, Any]) -> None:
    """Set this process's generators to what `random_state` returned."""
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
