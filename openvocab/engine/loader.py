"""Data loaders whose workers end with the run, and whose failures are explained."""

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

from openvocab.datasets.contracts import NamesSamples
from openvocab.datasets.sampler import ResumableSampler
from openvocab.engine.stopping import Stopped, uninterrupted
from openvocab.failures import RunFailed
from openvocab.process.group_signals import ignore_group_signals

LOADER_TIMEOUT = 300
"""Seconds that a loader with workers waits for a batch before it gives up, unless its `timeout` is set."""
_WORKER_OPTIONS = ("persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")
_MAX_LISTED_SAMPLES = 8
_DEAD = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", re.DOTALL)


class LoaderFailed(RunFailed, RuntimeError):
    """A loader worker hangs, was killed, or raised an error of its own."""


def complete_loader(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a loader with a timeout; without workers, settings that only workers use are dropped."""
    settings = dict(settings)
    if settings.get("num_workers", 0) == 0:
        return {key: value for key, value in settings.items() if key not in _WORKER_OPTIONS}
    settings.setdefault("timeout", LOADER_TIMEOUT)
    return settings


def guard_workers(loader: DataLoader) -> None:
    """Let only the parent process end the workers of `loader`, and let workers note what they load.

    The sockets over which workers send tensors are in a folder of this process, which removes it. If every worker had
    its own folder, one that is killed would leave it behind, and one that ends while its thread still opens the socket
    would print a traceback.
    """
    if loader.num_workers:
        get_temp_dir()  # once this process has one, its children use it
    loader.worker_init_fn = WorkerStart(loader.worker_init_fn, loader.num_workers)


class WorkerStart:
    """The `worker_init_fn` of a loader: what a worker does first.

    Args:
        initialize: the loader's former `worker_init_fn`, which is called last.
        num_workers: number of the loader's workers.
    """

    def __init__(self, initialize: Callable[[int], None] | None, num_workers: int) -> None:
        self.initialize = initialize
        self.begun = multiprocessing.RawArray("q", [-1] * num_workers)
        """For each worker, the index of the sample that it began to load last; in shared memory."""

    def __call__(self, worker: int) -> None:
        """Set up the worker process."""
        ignore_group_signals()
        silence_broken_connections()
        info = get_worker_info()
        if info is None:
            raise RuntimeError("WorkerStart: expected to be called in a loader worker, but this is the main process")
        dataset = info.dataset
        if isinstance(dataset, NamesSamples):
            dataset.on_item = partial(self.begun.__setitem__, worker)
        if self.initialize is not None:
            self.initialize(worker)


def silence_broken_connections() -> None:
    """Print no traceback in a worker if its parent stops receiving a batch: the parent reports why it ends.

    Python's thread that sends tensors passes all its errors to `sys.excepthook`.
    """
    previous_hook = sys.excepthook

    def hook(error_class: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not issubclass(error_class, (EOFError, ConnectionError)):
            previous_hook(error_class, error, trace)

    sys.excepthook = hook


@contextmanager
def batches_of(loader: DataLoader, key: str, is_nested: bool = False) -> Iterator[Iterator[Any]]:
    """Iterate over a loader in this block, which a signal may leave anywhere.

    The failure of a worker is raised by `next`, never in the middle of other work. The error names the worker, the
    dataset and the samples, and all workers are killed.

    Args:
        loader: a loader with or without workers.
        key: the loader's key in the config, for messages.
        is_nested: a block around this one iterates over another loader, and reports the deaths of its workers.

    Yields:
        The iterator over the batches.

    Raises:
        LoaderFailed: in place of torch's error.
    """
    with _deaths_raised_by_next():
        with uninterrupted():  # an iterator that is only half built cannot end its workers
            batches = iter(loader)
            _make_end_event_safe(batches)
        try:
            yield _Batches(batches)
        except (Stopped, KeyboardInterrupt):
            _free_locks(batches)
            raise
        except Exception as error:  # an error that a worker raised keeps its class
            _forget_workers(batches)  # or torch raises again when the next one ends
            message = _describe(error, loader, batches, key)
            if message is None and not is_nested and _DEAD.match(str(error)):
                message = f"a loader worker ended: {' '.join(str(error).split())}"
            if message is None:
                raise
            for worker in getattr(batches, "_workers", ()):
                worker.kill()  # it may hang
            raise LoaderFailed(message) from error


class _Batches:
    """The batches of a loader; `next` raises an error if a worker has died, even long ago.

    Args:
        source: torch's iterator.
    """

    is_waiting = False
    """Whether this process is waiting for a batch now, of whichever loader; set on the class."""

    def __init__(self, source: Any) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        _Batches.is_waiting = True
        try:
            dead = [worker.pid for worker in getattr(self.source, "_workers", ()) if worker.exitcode]
            if dead:
                raise RuntimeError(f"DataLoader worker (pid {dead[0]}) has died")
            return next(self.source)
        finally:
            _Batches.is_waiting = False


@contextmanager
def _deaths_raised_by_next() -> Iterator[None]:
    """Let torch raise the death of a worker in this block only while `next` waits for a batch.

    A signal tells torch about the death, wherever the main thread is then: in the middle of a save, or about to handle
    another error from the same death. `next` notices the death by itself later. While `next` waits, the signal is
    needed: a worker that died in the middle of sending leaves the reader waiting for the rest.
    """
    handler = None
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):  # not on Windows
        signal_handling._set_SIGCHLD_handler()
        handler = signal.getsignal(signal.SIGCHLD)
    if not callable(handler):
        yield
        return

    def on_child_signal(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except RuntimeError as error:
            if _Batches.is_waiting or not _DEAD.match(str(error)):
                raise

    signal.signal(signal.SIGCHLD, on_child_signal)
    try:
        yield
    finally:
        _Batches.is_waiting = False
        signal.signal(signal.SIGCHLD, handler)


def _make_end_event_safe(batches: Any) -> None:
    """Keep torch from waiting for the lock of the event that ends workers: a killed worker may hold it forever."""
    event = getattr(batches, "_workers_done_event", None)
    if event is not None and not isinstance(event, _EndOfWorkers):  # persistent workers keep theirs
        batches._workers_done_event = _EndOfWorkers(event)


class _EndOfWorkers:
    """The parent's side of the event that ends the workers of an iterator.

    Args:
        event: the workers' side of it; only the parent sets it.
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
        _free(self._event._cond)  # type: ignore[attr-defined]  # a private part of Python's Event: its lock
        self._event.set()


def _free_locks(batches: Any) -> None:
    """Free locks that the main thread would hold forever, because a signal raised an exception within a queue.

    Torch uses these queues to end the workers, and so does Python at its exit.
    """
    locks = [queue._notempty for queue in getattr(batches, "_index_queues", ())]
    data_queue: Any = getattr(batches, "_data_queue", None)
    if hasattr(data_queue, "mutex"):
        locks.append(data_queue.mutex)
    for lock in locks:
        _free(lock)


def _free(lock: Any) -> None:
    """Free a lock. One that is held for a second is held forever: threads and workers need it for microseconds."""
    lock.acquire(timeout=1)
    lock.release()


def _describe(error: Exception, loader: DataLoader, batches: Any, key: str) -> str | None:
    """Return one line about a worker's failure; None for other errors, and for a user's mistake."""
    text, of_loader = str(error), f"of {loader.num_workers} ({key}, {type(loader.dataset).__name__})"
    raised = re.match(r"Caught (\w+) in DataLoader worker process (\d+)", text)
    if raised:
        if isinstance(error, (OSError, ValueError, TypeError, KeyError, ImportError)):
            return None
        last = text.strip().splitlines()[-1]
        return f"loader worker {raised[2]} {of_loader}: {last}{_batch(loader, batches._rcvd_idx - 1)}"
    if type(error) is RuntimeError and text.startswith("DataLoader timed out"):
        worker = batches._task_info.get(batches._rcvd_idx, (0,))[0]
        return (
            f"loader worker {worker} {of_loader} has returned no batch for {loader.timeout:g} s"
            f"{_begun(loader, worker)}; if loading takes longer, set {key}.timeout"
        )
    worker = _dead_worker(error, batches)
    if worker is None:
        return None
    return f"loader worker {worker} {of_loader} {_ending(batches._workers[worker])}{_begun(loader, worker)}"


def _dead_worker(error: Exception, batches: Any) -> int | None:
    """Return the index of the worker whose death `error` reports: torch's own message, or a broken connection."""
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
    hints: dict[int, str] = {
        signal.SIGKILL: " (the system does so when memory runs out)",
        signal.SIGBUS: " (is /dev/shm full?)",
    }
    return f"was killed by {signal.Signals(-code).name}{hints.get(-code, '')}"


def _begun(loader: DataLoader, worker: int) -> str:
    """Return the sample that a worker began last as text, "" if its dataset does not note that."""
    index = loader.worker_init_fn.begun[worker] if isinstance(loader.worker_init_fn, WorkerStart) else -1
    return "" if index < 0 else f"; the last sample it began: {_names(loader, [index])}"


def _batch(loader: DataLoader, number: int) -> str:
    """Return the samples of a batch as text, "" if they cannot be told from the sampler."""
    indices = _indices_of(loader, number)
    return f"; its batch: {_names(loader, indices)}" if indices else ""


def _names(loader: DataLoader, indices: list[int]) -> str:
    dataset = loader.dataset
    name_of = dataset.sample_id_of if isinstance(dataset, NamesSamples) else "index {}".format
    more = ", ..." if len(indices) > _MAX_LISTED_SAMPLES else ""
    return ", ".join(name_of(index) for index in indices[:_MAX_LISTED_SAMPLES]) + more


def _indices_of(loader: DataLoader, number: int) -> list[int] | None:
    """Return the indices in batch `number` since the loader began; None for samplers that draw anew each time."""
    sampler, size = loader.sampler, loader.batch_size
    if size is None or type(loader.batch_sampler) is not BatchSampler:
        return None
    if isinstance(sampler, ResumableSampler):
        from_batch = copy.copy(sampler)
        from_batch.start_at(sampler.start + number * size * sampler.world_size)
        return [int(index) for index in islice(from_batch, size)]
    if isinstance(sampler, (DefaultSampler, SequentialSampler)):
        return list(islice(sampler, number * size, (number + 1) * size))
    return None


def _forget_workers(batches: Any) -> None:
    """Let torch report nothing further about the workers of an iterator."""
    if getattr(batches, "_worker_pids_set", False):
        signal_handling._remove_worker_pids(id(batches))
        batches._worker_pids_set = False
