"""A log that cannot be written causes one warning, and does not end the run."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.visualization import BaseVisBackend, Visualizer
from torch import Tensor, nn

logger = logging.getLogger(__name__)

RETRY_AFTER = 60.0
"""Seconds before the next attempt to write a log that could not be written."""

PACKAGES = {"TensorboardVisBackend": "'openvocab[log]'", "WandbVisBackend": "wandb", "MLflowVisBackend": "mlflow"}
"""What pip installs for a backend of mmengine."""


class TolerantBackend(BaseVisBackend):
    """Wrap a backend of a visualizer; if it fails, warn once and try again from time to time.

    Args:
        backend: TensorBoard or another backend.
    """

    def __init__(self, backend: BaseVisBackend) -> None:
        self.backend = backend
        self._failed_at: float | None = None

    def _init_env(self) -> None:
        self.backend._init_env()

    @property
    def experiment(self) -> Any:
        """The logger of the wrapped backend."""
        return self.backend.experiment

    def add_config(self, config: Config) -> None:
        """Write the config."""
        self._try(partial(self.backend.add_config, config))

    def add_graph(self, model: nn.Module, data_batch: Any) -> None:
        """Write the model's graph."""
        self._try(partial(self.backend.add_graph, model, data_batch))

    def add_image(self, name: str, image: np.ndarray, step: int = 0) -> None:
        """Write a picture."""
        self._try(partial(self.backend.add_image, name, image, step))

    def add_scalar(self, name: str, value: float | Tensor, step: int = 0) -> None:
        """Write a number."""
        self._try(partial(self.backend.add_scalar, name, value, step))

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None) -> None:
        """Write several numbers."""
        self._try(partial(self.backend.add_scalars, scalar_dict, step, file_path=file_path))

    def close(self) -> None:
        """Close the files."""
        self._try(self.backend.close)

    def _try(self, write: Callable[[], None]) -> None:
        if self._failed_at is not None and time.monotonic() < self._failed_at + RETRY_AFTER:
            return
        try:
            write()
        except ImportError as error:  # no later attempt can succeed
            name = type(self.backend).__name__
            if name not in PACKAGES:
                raise
            raise ImportError(f"visualizer: {name} needs a package: pip install {PACKAGES[name]}") from error
        except Exception as error:  # a logger's own code or a full disk may raise anything
            if self._failed_at is None:
                name = type(self.backend).__name__
                logger.warning(f"{name} cannot write ({error}): the run continues without it, and tries again later")
            self._failed_at = time.monotonic()
            self._forget_writer()
            return
        self._failed_at = None

    def _forget_writer(self) -> None:
        """Let TensorBoard open a new file next time: a writer that failed once stays broken."""
        if hasattr(self.backend, "_tensorboard"):
            self.backend._env_initialized = False


def make_tolerant(visualizer: Visualizer) -> None:
    """Replace the backends of `visualizer` by tolerant ones."""
    for name, backend in visualizer._vis_backends.items():
        if not isinstance(backend, TolerantBackend):
            visualizer._vis_backends[name] = TolerantBackend(backend)


def report_once(handler: logging.Handler) -> None:
    """Let a handler that cannot write report it in one line, once; Python would print a traceback for every record."""
    handler.handleError = _ErrorReport(handler)  # type: ignore[method-assign]  # this handler's alone, not its class's


@contextmanager
def quiet_writer_threads() -> Iterator[None]:
    """Print no traceback if TensorBoard's thread cannot write: its next call raises the same error."""
    previous_hook = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not (type(arguments.thread).__name__ == "_AsyncWriterThread" and isinstance(arguments.exc_value, OSError)):
            previous_hook(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = previous_hook


class _ErrorReport:
    """Report the first record that a handler cannot write, and no other."""

    def __init__(self, handler: logging.Handler) -> None:
        self.name = getattr(handler, "baseFilename", None) or "the console"
        self.has_reported = False

    def __call__(self, record: logging.LogRecord) -> None:
        if not self.has_reported:
            self.has_reported = True
            logger.warning(f"cannot write the log to {self.name} ({sys.exc_info()[1]}): the run continues")
