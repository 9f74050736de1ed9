"""The number of threads of a run: where our tools choose it, a resumed run keeps the one it began with."""

import logging
import os

import torch

from openvocab.process.processor_cores import CHOICE, available_cores

logger = logging.getLogger(__name__)


def threads_chosen() -> str | None:
    """Return why our tool has chosen this number of threads, None where the user or a host has set it."""
    return os.environ.get(CHOICE)


def keep_num_threads(begun: int | None, chosen: str | None) -> None:
    """Go on with as many threads as a run began with: sums are split over them, another number rounds otherwise.

    Args:
        begun: the run's number, None if it is unknown.
        chosen: see `threads_chosen`; None leaves the number of this process alone.
    """
    now = torch.get_num_threads()
    if begun is None or begun == now or chosen is None or begun > available_cores():
        return
    torch.set_num_threads(begun)
    logger.info(f"{begun} threads, as this run began, instead of {now} ({chosen})")
