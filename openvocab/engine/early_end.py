"""What the runner asks of hooks that end a run before its last iteration."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class EndsRuns(Protocol):
    """A hook that may end a run early: `--resume` of such a run finds that nothing is left to do."""

    def has_ended(self, checkpoint: Mapping[str, Any]) -> bool:
        """Return whether the run of a checkpoint was at its end there, by the hook's present settings."""
