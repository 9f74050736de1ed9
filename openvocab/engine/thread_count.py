"""The number of threads of a run: if our tools choose it, a resumed run keeps the number that it began with."""

import logging
import os

import torch

from openvocab.process.processor_cores import CHOICE, available_cores

logger = logging.getLogger(__name__)


def threads_chosen() -> str | None:
    """Return why our tool has chosen this number of threads; None if the user or a host program has set it."""
    return os.environ.get(CHOICE)


def keep_num_threads(begun: int | None, chosen: str | None) -> None:
    """Use as many threads as a run began with: sums are split among them, so that another number rounds differently.

    Args:
        begun: number of threads that the run began with; None if unknown.
        chosen: see `threads_chosen`; None keeps the number of this process.
    """
    now = torch.get_num_threads()
    if begun is None or begun == now or chosen is None or begun > available_cores():
        return
    torch.set_num_threads(begun)
    logger.info(f"{begun} threads, as at the start of this run, instead of {now} ({chosen})")
