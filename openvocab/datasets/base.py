"""The dataset that all others are: an index of files, a pipeline, and a policy for bad samples."""

import logging
import pickle
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from openvocab.argument_checks import check_choice
from openvocab.datasets.contracts import ChecksIndex, reads_files
from openvocab.files.file_values import number
from openvocab.former_names import accept_former_arguments
from openvocab.images.image_io import BadSample
from openvocab.registry import TRANSFORMS
from openvocab.seeding import seeded_draw

logger = logging.getLogger(__name__)

Transform = Callable[[dict], dict]
BadSamplePolicy = Literal["raise", "skip"]


@accept_former_arguments
class PipelineDataset(Dataset):
    """Items of an index, each sent through a pipeline of mmcv transforms.

    Subclasses implement `load_index`. An index that carries a `seed` attribute seeds all random draws of that item, so
    that an item does not depend on the worker that makes it, nor on the items before it.

    Args:
        pipeline: transforms, as config dicts or callables; each takes and returns the results dict.
        bad_samples: what a `BadSample` does in training. `raise` stops with its path. `skip` puts another item in its
            place, which depends on the index alone, and lists it at the end (`bad_sample_paths`); one that is found
            while the index is made is left out of it, and listed too.
        max_bad_share: with `skip`, the share of bad items above which the run stops after all.
        cache_images: keep what the leading `cacheable` transforms (reading files) made in memory. For small images.
        test_mode: evaluation: nothing is ever skipped.
        name: of the dataset, for logs and result files; by default where its files are (`place_name`).

    Raises:
        ValueError: a pipeline that is no list, an unknown policy, a share outside 0..1, or `skip` at evaluation.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of each subclass take its arguments under their former names, too, with a warning."""
        super().__init_subclass__(**kwargs)
        accept_former_arguments(cls)

    def __init__(
        self,
        pipeline: Sequence[dict | Transform],
        *,
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_choice("bad_samples", bad_samples, ("raise", "skip"))
        if bad_samples == "skip" and test_mode:
            raise ValueError("bad_samples='skip' with test_mode=True: an evaluation that leaves images out is not one")
        self.max_bad_share = number(max_bad_share, "max_bad_share")
        if not 0 <= self.max_bad_share <= 1:
            raise ValueError(f"max_bad_share: expected a share in 0..1, got {max_bad_share}")
        self.transforms = build_transforms(pipeline)
        self.bad_samples = bad_samples
        self.test_mode = test_mode
        self.name = name or type(self).__name__
        self._num_cached = _leading_cacheable(self.transforms) if cache_images else 0
        self._cache: dict[int, dict] = {}
        self._index: PackedIndex | None = None
        self._is_bad: torch.Tensor | None = None
        self.on_item: Callable[[int], None] | None = None
        """Told the index of each item before it is loaded: of a worker that hangs, the loader then knows where."""
        self._unusable: dict[str, None] = {}  # paths, in order and once each

    def load_index(self) -> list[dict[str, Any]]:
        """Return one small dict an item (`img_path`, `sample_id`, ...), in the same order on every machine."""
        raise NotImplementedError

    def common_results(self) -> dict[str, Any]:
        """Return what every item's results dict starts with, beside its own entry of the index."""
        return {}

    def start_results(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return the results dict that enters the pipeline for an entry of the index."""
        return {**self.common_results(), **item}

    @property
    def metainfo(self) -> dict[str, Any]:
        """Plain facts that mmengine hands to metrics and stores in checkpoints."""
        return {"dataset": self.name}

    def full_init(self) -> None:
        """Load the index; mmengine's runner calls this before it starts loader workers, else the first access does.

        Raises:
            ValueError: the index is empty.
        """
        if self._index is not None:
            return
        items = self.load_index()
        self._check_bad_share(list(self._unusable), len(items) + len(self._unusable))
        if not items:
            left_out = f"; {next(iter(self._unusable))} was left out as a bad sample" if self._unusable else ""
            raise ValueError(f"{self.name}: no samples found{left_out}")
        for transform in self.transforms:
            if isinstance(transform, ChecksIndex):
                transform.check_index(items)
        self._index = PackedIndex(items)
        self._is_bad = torch.zeros(len(items), dtype=torch.uint8).share_memory_()  # seen by all loader workers

    def note_unusable(self, error: BadSample) -> None:
        """Take the error of a file that is read while the index is made: raise it, or with `skip` list it."""
        if self.bad_samples == "raise":
            raise error
        if error.path not in self._unusable:
            logger.warning(f"bad sample left out: {error}")
        self._unusable[error.path] = None

    def __len__(self) -> int:
        self.full_init()
        return len(self._index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.full_init()
        if self.on_item is not None:
            self.on_item(index)
        with seeded_draw(index):
            if self.bad_samples == "raise":
                return self._make(int(index))
            return self._make_or_replace(int(index))

    def sample_id_of(self, index: int) -> str:
        """Return the id of an item without loading it."""
        self.full_init()
        return str(self._index[int(index)].get("sample_id", index))

    @property
    def bad_sample_count(self) -> int:
        """Number of `bad_sample_paths`."""
        return len(self.bad_sample_paths)

    @property
    def bad_sample_paths(self) -> list[str]:
        """Paths of the items that were replaced so far, by this process or its loader workers, or never indexed."""
        if self._is_bad is None:
            return []
        replaced = self._is_bad.nonzero().flatten().tolist()
        return [*self._unusable] + [_path_of(self._index[position]) for position in replaced]

    def _make(self, position: int) -> dict[str, Any]:
        """Run the pipeline on one item."""
        results = self._cache.get(position)
        if results is None:
            results = _run(self.transforms[: self._num_cached], self.start_results(self._index[position]))
            if self._num_cached:
                self._cache[position] = _frozen(results)
        return _run(self.transforms[self._num_cached :], dict(results))

    def _make_or_replace(self, position: int) -> dict[str, Any]:
        candidates = random.Random(position)
        for _ in range(len(self)):
            try:
                return self._make(position)
            except BadSample as error:
                self._note_bad(position, error)
                position = candidates.randrange(len(self))
        raise BadSample(_path_of(self._index[position]), "no usable sample found in its place")

    def _note_bad(self, position: int, error: BadSample) -> None:
        """Remember a bad item; stop when there are too many."""
        if self._is_bad[position]:
            return
        self._is_bad[position] = 1
        logger.warning(f"bad sample replaced: {error}")
        self._check_bad_share(self.bad_sample_paths, len(self) + len(self._unusable))

    def _check_bad_share(self, paths: Sequence[str], count: int) -> None:
        if len(paths) > max(1, self.max_bad_share * count):
            listed = "\n  ".join(paths)
            raise ValueError(
                f"{self.name}: {len(paths)} of {count} samples are bad, more than max_bad_share="
                f"{self.max_bad_share}:\n  {listed}"
            )


def build_transforms(pipeline: Sequence[dict | Transform]) -> list[Transform]:
    """Return the transforms of a pipeline, built where they are config dicts.

    Raises:
        ValueError: no list.
    """
    if isinstance(pipeline, str) or not isinstance(pipeline, Sequence):
        raise ValueError(f"pipeline: expected a list of transforms, got {repr(pipeline)[:60]}")
    return [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]


def place_name(root: str | Path, files: str | Path) -> str:
    """Return the name of a dataset that is given none, such as `my_data/labels/val`; "" where it has no root.

    Args:
        root: its folder, of which the last part counts.
        files: what tells its parts apart, below `root`.
    """
    folder, files = Path(root).name, Path(files)
    return "" if not folder or files.is_absolute() else f"{folder}/{files.as_posix()}"


def _leading_cacheable(transforms: Sequence[Transform]) -> int:
    """Return how many transforms from the start make the same thing each time."""
    count = 0
    while count < len(transforms) and reads_files(transforms[count]):
        count += 1
    return count


def _frozen(results: dict[str, Any]) -> dict[str, Any]:
    """Forbid writes into the arrays of `results`: a transform that works in place would spoil the cache."""
    for value in results.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return results


def _run(transforms: Sequence[Transform], results: dict[str, Any]) -> dict[str, Any]:
    for transform in transforms:
        results = transform(results)
    return results


def _path_of(item: dict[str, Any]) -> str:
    return str(item.get("img_path", item.get("sample_id", "?")))


class PackedIndex:
    """A long list of small dicts, stored pickled in one array.

    Worker processes share its pages: a list of Python objects would be copied into each of them, page by page, as
    reference counts are written. Each access makes a fresh dict.
    """

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        packed = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([len(item) for item in packed], dtype=np.int64)
        self._buffer = np.frombuffer(b"".join(packed), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, position: int) -> dict[str, Any]:
        start = self._ends[position - 1] if position else 0
        return pickle.loads(memoryview(self._buffer[start : self._ends[position]]))
