"""What a dataset, a sampler or a transform may offer beyond what torch and mmcv ask of it, and who asks for it.

Those of other packages offer nothing of this and work all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from openvocab.vocabulary.vocabulary import Vocabulary


@runtime_checkable
class NamesClasses(Protocol):
    """A dataset with class names: checkpoints keep them, a resumed run compares them, metrics take their keys."""

    vocabulary: Vocabulary | None


@runtime_checkable
class StatesFacts(Protocol):
    """A dataset with facts for metrics and pictures, as mmengine's have them."""

    metainfo: Mapping[str, Any]


@runtime_checkable
class CountsBadSamples(Protocol):
    """A dataset that leaves bad samples out: `BadSampleHook` lists them."""

    bad_sample_count: int
    bad_sample_paths: Sequence[str]


@runtime_checkable
class ResumableStream(Protocol):
    """A dataset without indices: the train loop tells it what has been trained on, and where to go on."""

    def note_consumed(self, positions: Sequence[Any]) -> None:
        """Take the positions that came with a batch which has been trained on."""

    def start_at(self, progress: Mapping[int, Mapping[str, Any]], seed: int) -> None:
        """Go on after what was consumed."""


@runtime_checkable
class ResumableOrder(Protocol):
    """A sampler that can begin at any draw."""

    def start_at(self, draw: int) -> None:
        """Begin at this draw of the whole job."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A transform that says whether it makes the same of a file each time, and nothing random: it may be cached."""

    cacheable: bool


@runtime_checkable
class Packs(Protocol):
    """A transform that says whether it makes what the model takes out of the results."""

    packs: bool


@runtime_checkable
class ChecksIndex(Protocol):
    """A transform that reads what was made for certain images: it is shown the index of the dataset first."""

    def check_index(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Raise for an image that nothing was made for."""


def vocabulary_of(dataset: Any) -> Vocabulary | None:
    """Return the class names of a dataset; None of one that has none."""
    return dataset.vocabulary if isinstance(dataset, NamesClasses) else None


def reads_files(transform: Any) -> bool:
    """Return whether a transform, or a class of transforms, reads files and may be cached."""
    return isinstance(transform, ReadsFiles) and bool(transform.cacheable)


def packs(transform: Any) -> bool:
    """Return whether a transform, or a class of transforms, packs."""
    return isinstance(transform, Packs) and bool(transform.packs)
