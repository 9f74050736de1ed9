"""Data loaders whose workers end with the run, and whose failures have a name."""

import copy
import multiprocessing
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from multiprocessing.util import get_temp_dir
from types import FrameType, TracebackType
from typing import Any

from mmengine.dataset import DefaultSampler
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, get_worker_info
from torch.utils.data._utils import signal_handling

from openvocab.datasets.base import PipelineDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.engine.stopping import Stopped, uninterrupted
from openvocab.process.group_signals import ignore_group_signals

LOADER_TIMEOUT = 300
"""Seconds after which a loader that has workers gives up waiting for a batch, unless its `timeout` says otherwise."""
_WORKER_OPTIONS = ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")
_SHOWN_SAMPLES = 8
_DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", re.DOTALL)


class LoaderFailed(RuntimeError):
    """A loader worker hangs, was killed, or raised an error of its own."""


def complete_loader(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a loader with a timeout; without workers, those that only workers have are left out."""
    settings = dict(settings)
    if settings.get("num_workers", 0) == 0:
        return {key: value for key, value in settings.items() if key not in _WORKER_OPTIONS}
    settings.setdefault("timeout", LOADER_TIMEOUT)
    return settings


def guard_workers(loader: DataLoader) -> None:
    """Let the workers of `loader` leave it to their parent when to end, and note what they load.

    The sockets over which they hand tensors on lie in a folder of this process, which removes it. In folders of their
    own, a worker that is killed leaves its folder behind, and one that ends while a thread of its own still opens the
    socket prints a traceback.
    """
    if loader.num_workers:
        get_temp_dir()  # what this process has, its children use
    loader.worker_init_fn = WorkerStart(loader.worker_init_fn, loader.num_workers)


class WorkerStart:
    """What a worker does first.

    Args:
        initialize: what it would have done first.
        num_workers: of the loader.
    """

    def __init__(self, initialize: Callable[[int], None] | None, num_workers: int) -> None:
        self.initialize = initialize
        self.begun = multiprocessing.RawArray("q", [-1] * num_workers)
        """Of each worker, the index of the sample that it has begun to load last; shared memory."""

    def __call__(self, worker: int) -> None:
        """Set up the worker process."""
        ignore_group_signals()
        leave_broken_connections_unsaid()
        dataset = get_worker_info().dataset
        if isinstance(dataset, PipelineDataset):
            dataset.on_item = partial(self.begun.__setitem__, worker)
        if self.initialize is not None:
            self.initialize(worker)


def leave_broken_connections_unsaid() -> None:
    """Let a worker print no traceback where its parent breaks off the taking of a batch: the parent says why it ends.

    Python's thread that hands tensors over gives all its errors to `sys.excepthook`.
    """
    said = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(kind, (EOFError, ConnectionError)):
            said(kind, error, trace)

    sys.excepthook = hook


@contextmanager
def batches_of(loader: DataLoader, key: str, is_nested: bool = False) -> Iterator[Iterator[Any]]:
    """Iterate over a loader in this block, which a signal may leave anywhere.

    What goes wrong with a worker is raised by `next`, never in the middle of other work. It is reported by worker, data
    set and samples, and ends all workers.

    Args:
        key: of the loader in the config.
        is_nested: a block around this one knows the workers that this one does not.

    Yields:
        the batches.

    Raises:
        LoaderFailed: in place of torch's error.
    """
    with _deaths_raised_by_next():
        with uninterrupted():  # an iterator that is half made cannot end its workers
            batches = iter(loader)
            _survive_its_workers(batches)
        try:
            yield _Batches(batches)
        except (Stopped, KeyboardInterrupt):
            _free_locks(batches)
            raise
        except Exception as error:  # what a worker raised comes out as its own class
            _forget_workers(batches)  # or torch raises again when the next one ends
            message = _describe(error, loader, batches, key)
            if message is None and not is_nested and _DEAD.match(str(error)):
                message = f"a loader worker ended: {' '.join(str(error).split())}"
            if message is None:
                raise
            for worker in getattr(batches, "_workers", ()):
                worker.kill()  # it may hang
            raise LoaderFailed(message) from error


_TAKING: list["_Batches"] = []
"""The iterator from which a batch is being taken, if any."""


class _Batches:
    """The batches of a loader, whose `next` raises that a worker has died, be it long ago.

    Args:
        source: torch's iterator.
    """

    def __init__(self, source: Any) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        _TAKING.append(self)
        try:
            dead = [worker.pid for worker in getattr(self.source, "_workers", ()) if worker.exitcode]
            if dead:
                raise RuntimeError(f"DataLoader worker (pid {dead[0]}) has died")
            return next(self.source)
        finally:
            _TAKING.clear()


@contextmanager
def _deaths_raised_by_next() -> Iterator[None]:
    """Let torch, when it hears that a worker has died, raise that in this block only while a batch is being taken.

    It hears of it by a signal, wherever the main thread is then: in the middle of a save, or where another error of the
    same death is about to be handled. `next` finds out by itself later. While it waits the signal is needed: a worker
    that died in the middle of handing over leaves the reader waiting for the rest.
    """
    handler = None
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):  # not on Windows
        signal_handling._set_SIGCHLD_handler()
        handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler):
        yield
        return

    def hear(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except RuntimeError as error:
            if _TAKING or not _DEAD.match(str(error)):
                raise

    signal.signal(signal.SIGCHLD, hear)
    try:
        yield
    finally:
        _TAKING.clear()
        signal.signal(signal.SIGCHLD, handler)


def _survive_its_workers(batches: Any) -> None:
    """Let torch not wait for the lock of the event that ends workers, which one that was killed may hold for ever."""
    event = getattr(batches, "_workers_done_event", None)
    if event is not None and not isinstance(event, _EndOfWorkers):  # that of persistent workers has been seen to
        batches._workers_done_event = _EndOfWorkers(event)


class _EndOfWorkers:
    """The parent's side of the event that ends the workers of an iterator.

    Args:
        event: that the workers have; only the parent sets it.
    """

    def __init__(self, event: Event) -> None:
        self._event = event
        self._is_set = False

    def is_set(self) -> bool:
        """Return whether the parent has set it."""
        return self._is_set

    def set(self) -> None:
        """Tell the workers to end."""
        self._is_set = True
        _free(self._event._cond)
        self._event.set()


def _free_locks(batches: Any) -> None:
    """Free what the main thread has locked for ever, where an exception came out of a signal within a queue.

    Torch asks those queues to end the workers, and Python at its exit.
    """
    locks = [queue._notempty for queue in getattr(batches, "_index_queues", ())]
    locks += [queue.mutex for queue in [getattr(batches, "_data_queue", None)] if hasattr(queue, "mutex")]
    for lock in locks:
        _free(lock)


def _free(lock: Any) -> None:
    """Free a lock that was held for a second, which is for ever: threads and workers hold it for microseconds."""
    lock.acquire(timeout=1)
    lock.release()


def _describe(error: Exception, loader: DataLoader, batches: Any, key: str) -> str | None:
    """Return one line about a worker's failure; None for other errors, and for those that are a user's mistake."""
    text, place = str(error), f"of {loader.num_workers} ({key}, {type(loader.dataset).__name__})"
    raised = re.match(r"Caught (\w+) in DataLoader worker process (\d+)", text)
    if raised:
        if isinstance(error, (OSError, ValueError, TypeError, KeyError, ImportError)):
            return None
        last = text.strip().splitlines()[-1]
        return f"loader worker {raised[2]} {place}: {last}{_batch(loader, batches._rcvd_idx - 1)}"
    if type(error) is RuntimeError and text.startswith("DataLoader timed out"):
        worker = batches._task_info.get(batches._rcvd_idx, (0,))[0]
        return (
            f"loader worker {worker} {place} has given no batch for {loader.timeout:g} s"
            f"{_begun(loader, worker)}; where loading takes longer, set {key}.timeout"
        )
    worker = _dead_worker(error, batches)
    if worker is None:
        return None
    return f"loader worker {worker} {place} {_ending(batches._workers[worker])}{_begun(loader, worker)}"


def _dead_worker(error: Exception, batches: Any) -> int | None:
    """Return the number of the worker whose death `error` reports: torch's own words, or a connection that broke."""
    dead = _DEAD.match(str(error)) if type(error) is RuntimeError else None
    workers = list(getattr(batches, "_workers", ()))
    if dead:
        pids = [worker.pid for worker in workers]
        return next((pids.index(int(pid)) for pid in dead[1].split(", ") if int(pid) in pids), None)
    if isinstance(error, (ConnectionError, EOFError, FileNotFoundError)):
        for number, worker in enumerate(workers):
            worker.join(0.2)
            if worker.exitcode:
                return number
    return None


def _ending(process: BaseProcess) -> str:
    process.join(1)
    code = process.exitcode
    if code is None or code >= 0:
        return f"exited with code {code}"
    hints = {signal.SIGKILL: " (the system does so where memory runs out)", signal.SIGBUS: " (is /dev/shm full?)"}
    return f"was killed by {signal.Signals(-code).name}{hints.get(-code, '')}"


def _begun(loader: DataLoader, worker: int) -> str:
    """Return the sample that a worker has begun last as text, where its dataset notes that."""
    index = loader.worker_init_fn.begun[worker] if isinstance(loader.worker_init_fn, WorkerStart) else -1
    return "" if index < 0 else f"; the last sample it began: {_names(loader, [index])}"


def _batch(loader: DataLoader, number: int) -> str:
    """Return the samples of a batch as text, as far as the sampler can tell."""
    indices = _indices_of(loader, number)
    return f"; its batch: {_names(loader, indices)}" if indices else ""


def _names(loader: DataLoader, indices: list[int]) -> str:
    is_ours = isinstance(loader.dataset, PipelineDataset)
    name_of = loader.dataset.sample_id_of if is_ours else "index {}".format
    more = ", ..." if len(indices) > _SHOWN_SAMPLES else ""
    return ", ".join(name_of(index) for index in indices[:_SHOWN_SAMPLES]) + more


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


def _forget_workers(batches: Any) -> None:
    """Let torch report nothing more about the workers of an iterator."""
    if getattr(batches, "_worker_pids_set", False):
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False
