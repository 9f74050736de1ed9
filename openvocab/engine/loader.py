"""Data loaders whose workers end with the run, and whose failures have a name."""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler
from torch.utils.data._utils import signal_handling

from openvocab.datasets.sampler import ResumableSampler
from openvocab.engine.stopping import ignore_group_signals

LOADER_TIMEOUT = 300
"""Seconds after which a loader that has workers gives up waiting for a batch, unless its `timeout` says otherwise."""
_WORKER_OPTIONS = ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")
_SHOWN_SAMPLES = 8
_DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", re.DOTALL)


class LoaderFailed(RuntimeError):
    """A loader worker hangs, was killed, or raised an error of its own."""


def complete_loader(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a loader with a time out, or without all that only workers have if there are none."""
    settings = dict(settings)
    if settings.get("num_workers", 0) == 0:
        return {key: value for key, value in settings.items() if key not in _WORKER_OPTIONS}
    settings.setdefault("timeout", LOADER_TIMEOUT)
    return settings


def guard_workers(loader: DataLoader) -> None:
    """Let the workers of `loader` leave it to their parent when to end."""
    loader.worker_init_fn = WorkerStart(loader.worker_init_fn)


class WorkerStart:
    """What a worker does first.

    Args:
        initialize: what it would have done first.
    """

    def __init__(self, initialize: Callable[[int], None] | None) -> None:
        self.initialize = initialize

    def __call__(self, worker: int) -> None:
        """Do it."""
        ignore_group_signals()
        if self.initialize is not None:
            self.initialize(worker)


@contextmanager
def named_failures(loader: DataLoader, batches: Any, key: str, is_nested: bool = False) -> Iterator[None]:
    """Report what goes wrong with a worker in this block by worker, data set and samples, and end all workers.

    Args:
        batches: the iterator of `loader` that is in use.
        key: of the loader in the config.
        is_nested: a block around this one knows the workers that this one does not.

    Raises:
        LoaderFailed: in place of torch's error.
    """
    try:
        yield
    except Exception as error:  # what a worker raised comes out as its own class
        message = _describe(str(error), type(error), loader, batches, key)
        if message is None and not is_nested and _DEAD.match(str(error)):
            message = f"a loader worker ended: {' '.join(str(error).split())}"
        if message is None:
            raise
        _kill_workers(batches)
        raise LoaderFailed(message) from error


def _describe(text: str, kind: type[Exception], loader: DataLoader, batches: Any, key: str) -> str | None:
    """Return one line about a worker's failure; None for other errors, and for those that are a user's mistake."""
    name = f"{key}, {type(loader.dataset).__name__}"
    if kind is RuntimeError and text.startswith("DataLoader timed out"):
        number = batches._rcvd_idx
        worker = batches._task_info.get(number, (None,))[0]
        return (
            f"loader worker {worker} of {loader.num_workers} ({name}) has given no batch for {loader.timeout:g} s"
            f"{_samples(loader, number)}; where loading takes longer, set {key}.timeout"
        )
    dead = _DEAD.match(text) if kind is RuntimeError else None
    worker = _worker_of(dead[1], batches) if dead else None
    if worker is not None:
        tasks = [number for number, task in batches._task_info.items() if task == (worker,)]
        loading = _samples(loader, min(tasks)) if tasks else ""
        cause = " ".join(dead[2].split()).rstrip(". ")
        return f"loader worker {worker} of {loader.num_workers} ({name}) {cause}{loading}"
    raised = re.match(r"Caught (\w+) in DataLoader worker process (\d+)", text)
    if raised and not issubclass(kind, (OSError, ValueError, TypeError, KeyError, ImportError)):
        last = text.strip().splitlines()[-1]
        samples = _samples(loader, batches._rcvd_idx - 1)
        return f"loader worker {raised[2]} of {loader.num_workers} ({name}): {last}{samples}"
    return None


def _worker_of(pids: str, batches: Any) -> int | None:
    workers = [worker.pid for worker in getattr(batches, "_workers", ())]
    return next((workers.index(int(pid)) for pid in pids.split(", ") if int(pid) in workers), None)


def _samples(loader: DataLoader, number: int) -> str:
    """Return the samples of a batch as text, as far as the sampler can tell."""
    indices = _indices_of(loader, number)
    if not indices:
        return ""
    name_of = getattr(loader.dataset, "sample_id_of", None)
    names = [str(index) if name_of is None else name_of(index) for index in indices[:_SHOWN_SAMPLES]]
    more = ", ..." if len(indices) > _SHOWN_SAMPLES else ""
    return f"; its batch: {'indices' if name_of is None else 'samples'} {', '.join(names)}{more}"


def _indices_of(loader: DataLoader, number: int) -> list[int] | None:
    """Return the indices of batch `number` since the loader began; None for samplers that differ each time."""
    sampler, size = loader.sampler, loader.batch_size
    if type(loader.batch_sampler) is not BatchSampler:
        return None
    if isinstance(sampler, ResumableSampler):
        again = copy.copy(sampler)
        again.start_at(sampler.start + number * size * sampler.world_size)
        return [int(index) for index in islice(again, size)]
    if isinstance(sampler, (DefaultSampler, SequentialSampler)):
        return list(islice(sampler, number * size, (number + 1) * size))
    return None


def _kill_workers(batches: Any) -> None:
    """End what may hang, after telling torch not to report it."""
    if getattr(batches, "_worker_pids_set", False):
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False
    for worker in getattr(batches, "_workers", ()):
        worker.kill()
