"""Several datasets as one."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

from torch.utils.data import Dataset, IterableDataset

from openvocab.datasets.contracts import CountsBadSamples, NamesSamples, vocabulary_of
from openvocab.registry import DATASETS
from openvocab.seeding import DrawIndex
from openvocab.vocabulary.vocabulary import Vocabulary


@DATASETS.register_module()
class MixedDataset(Dataset):
    """The items of several datasets, one after the other; `MixedSampler` draws from them by weights.

    A batch may hold items of several datasets, so the head must be one that reads a prompt per image; datasets with
    labeled classes need `DetectionPrompt` in their pipelines.

    Args:
        datasets: the datasets, or their configs.
        name: name of the dataset, for logs and result files; default: the names of the parts, joined by "+".

    Raises:
        TypeError: a stream, which has no indices (`WebCaptionDataset`).
        ValueError: no dataset.
    """

    def __init__(self, datasets: Sequence[dict[str, Any] | Dataset], name: str = "") -> None:
        if isinstance(datasets, (str, dict)) or not datasets:
            raise ValueError(f"datasets: expected a list of at least one dataset, got {str(datasets)[:60]}")
        self.parts: list[Any] = [DATASETS.build(part) if isinstance(part, dict) else part for part in datasets]
        for part in self.parts:
            if isinstance(part, IterableDataset):
                raise TypeError(f"datasets: {type(part).__name__} is a stream, from which single items cannot be drawn")
        self.name = name or "+".join(str(getattr(part, "name", type(part).__name__)) for part in self.parts)
        self.on_item: Callable[[int], None] | None = None
        """See `PipelineDataset`."""
        self._ends: list[int] = []

    def full_init(self) -> None:
        """Load the indices of all parts, before loader workers start."""
        for part in self.parts:
            if hasattr(part, "full_init"):
                part.full_init()
        self._ends = list(accumulate(map(len, self.parts)))

    @property
    def part_sizes(self) -> list[int]:
        """Number of items of each part."""
        return [len(part) for part in self.parts]

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Classes of all parts if they are the same; else None: each sample has its own."""
        first, *others = map(vocabulary_of, self.parts)
        return first if all(other == first for other in others) else None

    @property
    def metainfo(self) -> dict[str, Any]:
        """Plain facts that mmengine hands to metrics and stores in checkpoints."""
        return {"dataset": self.name}

    @property
    def bad_sample_count(self) -> int:
        """Number of bad samples of all parts; see `PipelineDataset`."""
        return sum(part.bad_sample_count for part in self.parts if isinstance(part, CountsBadSamples))

    @property
    def bad_sample_paths(self) -> list[str]:
        """Paths of the bad samples of all parts."""
        counting = (part for part in self.parts if isinstance(part, CountsBadSamples))
        return [path for part in counting for path in part.bad_sample_paths]

    def __len__(self) -> int:
        if not self._ends:
            self.full_init()
        return self._ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self.on_item is not None:
            self.on_item(index)
        part, inner = self._locate(index)
        return part[DrawIndex(inner, index.seed) if isinstance(index, DrawIndex) else inner]

    def sample_id_of(self, index: int) -> str:
        """Return the id of an item without loading it, after the name of its dataset."""
        part, inner = self._locate(index)
        name = part.sample_id_of(inner) if isinstance(part, NamesSamples) else f"index {inner}"
        return f"{getattr(part, 'name', type(part).__name__)}: {name}"

    def _locate(self, index: int) -> tuple[Any, int]:
        """Return the dataset of an item, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name}: no item {int(index)} among {len(self)}")
        number = bisect_right(self._ends, index)
        return self.parts[number], int(index) - (self._ends[number - 1] if number else 0)
