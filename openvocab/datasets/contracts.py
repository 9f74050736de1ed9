"""Optional members of datasets, samplers and transforms, beyond what torch and mmcv require, and who uses them.

Datasets, samplers and transforms of other packages have none of these members, and work.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from openvocab.vocabulary.vocabulary import Vocabulary


@runtime_checkable
class NamesClasses(Protocol):
    """A dataset with class names: checkpoints store them, a resumed run compares them, metrics use them."""

    vocabulary: Vocabulary | None


@runtime_checkable
class StatesFacts(Protocol):
    """A dataset with plain facts for metrics and pictures, as in mmengine."""

    metainfo: Mapping[str, Any]


@runtime_checkable
class CountsBadSamples(Protocol):
    """A dataset that skips bad samples: `BadSampleHook` lists them."""

    bad_sample_count: int
    bad_sample_paths: Sequence[str]


@runtime_checkable
class NamesSamples(Protocol):
    """A dataset that names the sample that was being loaded when something failed."""

    on_item: Callable[[int], None] | None
    """Called with the index of each item before it is loaded."""

    def sample_id_of(self, index: int) -> str:
        """Return the id of an item without loading it."""


@runtime_checkable
class ResumableStream(Protocol):
    """A stream without indices: the train loop reports what has been trained on, and sets where to continue."""

    def progress(self) -> Mapping[int, Mapping[str, Any]]:
        """Return the last position of each consumer of this rank, as plain values."""

    def note_consumed(self, positions: Sequence[Any]) -> None:
        """Record the positions of a batch that has been trained on."""

    def start_at(self, progress: Mapping[int, Mapping[str, Any]], seed: int) -> None:
        """Continue after what was consumed."""


@runtime_checkable
class ResumableOrder(Protocol):
    """A sampler that can begin at any draw."""

    def start_at(self, draw: int) -> None:
        """Begin at this draw of the whole job."""


@runtime_checkable
class HasSeed(Protocol):
    """A sampler that draws by a seed: a resumed run continues with the seed that it began with."""

    seed: int | None


@runtime_checkable
class ReadsFiles(Protocol):
    """A transform that states whether it only reads files, without randomness, so that its results may be cached."""

    cacheable: bool


@runtime_checkable
class Packs(Protocol):
    """A transform that states whether it turns the results into what the model takes, as `PackSample` does."""

    packs: bool


@runtime_checkable
class ChecksIndex(Protocol):
    """A transform that needs files made for certain images: it checks the index of the dataset before it runs."""

    def check_index(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Raise an error for an image without such a file."""


def vocabulary_of(dataset: Any) -> Vocabulary | None:
    """Return the class names of a dataset; None if it has none."""
    return dataset.vocabulary if isinstance(dataset, NamesClasses) else None


def reads_files(transform: Any) -> bool:
    """Return whether a transform, or a class of transforms, reads files and may be cached."""
    return isinstance(transform, ReadsFiles) and bool(transform.cacheable)


def packs(transform: Any) -> bool:
    """Return whether a transform, or a class of transforms, packs."""
    return isinstance(transform, Packs) and bool(transform.packs)
