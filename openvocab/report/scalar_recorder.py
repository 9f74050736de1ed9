"""Take the numbers that a run logs, exactly as every other logger gets them."""

from collections.abc import Callable
from typing import Any

from mmengine.visualization import BaseVisBackend


class ScalarRecorder(BaseVisBackend):
    """A backend of mmengine's visualizer that passes on numbers and ignores everything else.

    Args:
        take: is called with the iteration and the numbers of it.
    """

    def __init__(self, take: Callable[[int, dict[str, Any]], object]) -> None:
        self.take = take

    def _init_env(self) -> None:
        """Do nothing: there is nothing to open."""

    @property
    def experiment(self) -> "ScalarRecorder":
        """This recorder."""
        return self

    def add_scalars(self, scalar_dict: dict[str, Any], step: int = 0, file_path: str | None = None) -> None:
        """Pass on the numbers of an iteration."""
        self.take(step, scalar_dict)
