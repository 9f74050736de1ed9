"""Experiment trackers by name: where else the numbers of a run go."""

from importlib.util import find_spec
from typing import Any

from mmengine.config import Config, ConfigDict

from openvocab.argument_checks import check_choice
from openvocab.engine.tolerant_logging import PACKAGES

TRACKERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tensorboard": ("tensorboard", dict(type="TensorboardVisBackend")),
    "wandb": ("wandb", dict(type="WandbVisBackend")),
    "mlflow": ("mlflow", dict(type="MLflowVisBackend", tracking_uri="sqlite:///mlflow.db")),
}
"""The module that a tracker needs, and its backend of mmengine's visualizer."""


def add_tracker(config: Config, name: str | None) -> None:
    """Let a run also write its numbers to an experiment tracker; None adds none, nor does one that is there already.

    Args:
        config: changed in place.
        name: a key of `TRACKERS`.

    Raises:
        ValueError: an unknown name.
        ImportError: the tracker is not installed; the message states what pip installs.
    """
    if name is None:
        return
    check_choice("tracker", name, tuple(TRACKERS))
    module, backend = TRACKERS[name]
    if find_spec(module) is None:
        raise ImportError(f"--tracker {name} needs a package: pip install {PACKAGES[backend['type']]}")
    if config.get("visualizer") is None:
        config.visualizer = dict(type="Visualizer")
    if config.visualizer.get("vis_backends") is None:
        config.visualizer.vis_backends = []
    backends = config.visualizer.vis_backends
    if all(_name_of(other) != backend["type"] for other in backends):
        backends.append(ConfigDict(backend))  # in place: a copy would hold classes, which no config file can state


def _name_of(backend: Any) -> str:
    kind = backend["type"]
    return kind if isinstance(kind, str) else kind.__name__
