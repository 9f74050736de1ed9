"""Two processes on the CPU that work on one question, for tests of what ranks share."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # noqa: F401  before the group: its default arguments would keep it alive


def run_two_ranks(work: Callable[[int], Any]) -> list[Any]:
    """What `work(rank)`, a function of a module, returned on each of two ranks."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        # a copy of this process has everything imported, but none can be taken of one that may have used CUDA
        method = "spawn" if torch.cuda.is_available() else "fork"
        torch.multiprocessing.start_processes(_run_rank, (work, folder), nprocs=2, start_method=method)
        return [torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _run_rank(rank: int, work: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(str(Path(folder) / "store"), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    torch.save(work(rank), Path(folder) / f"{rank}.pt")
    dist.barrier()  # a rank that leaves first tears the connection under the other
    dist.destroy_process_group()
