"""The base class of all datasets: an index of files, a pipeline of transforms, and a policy for bad samples."""

import logging
import pickle
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch.utils.data import Dataset

from openvocab.argument_checks import argument_group, check_choice, check_flags
from openvocab.datasets.contracts import ChecksIndex, reads_files
from openvocab.datasets.transforms.results import Results
from openvocab.files.file_values import number
from openvocab.former_names import accept_former_arguments
from openvocab.images.image_io import BadSample
from openvocab.registry import TRANSFORMS
from openvocab.seeding import seeded_draw

logger = logging.getLogger(__name__)

Transform = Callable[[Any], Any]
"""Maps a `Results` dict to the changed one; the last transform of a pipeline returns the input of the model."""
BadSamplePolicy = Literal["raise", "skip"]


@dataclass(frozen=True)
class Loading:
    """How a dataset reads its files: the group of arguments `loading`, which all datasets share.

    Raises:
        ValueError: an unknown policy, a fraction outside 0..1, or a flag that is neither True nor False.
    """

    bad_samples: BadSamplePolicy = "raise"
    """What a `BadSample` does in training. `raise` stops with its path. `skip` replaces it by another item, which
    depends on the index alone, and lists it at the end (`bad_sample_paths`); a bad sample that is found while the index
    is built is dropped from it, and listed too."""
    max_bad_share: float = 0.01
    """With `skip`, the fraction of bad samples above which the run stops after all."""
    cache_images: bool = False
    """Keep in memory what the leading `cacheable` transforms (those that read files) returned. For small images."""

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choice("loading.bad_samples", self.bad_samples, ("raise", "skip"))
        check_flags({"loading.cache_images": self.cache_images})
        share = number(self.max_bad_share, "loading.max_bad_share")
        if not 0 <= share <= 1:
            raise ValueError(f"loading.max_bad_share: expected a fraction in 0..1, got {self.max_bad_share}")
        object.__setattr__(self, "max_bad_share", share)


@accept_former_arguments
class PipelineDataset(Dataset):
    """Items of an index, each sent through a pipeline of mmcv transforms.

    Subclasses implement `load_index`. An index that carries a `seed` attribute (`DrawIndex`) seeds all random draws of
    that item, so that an item depends neither on the worker that loads it nor on the items before it.

    Args:
        pipeline: transforms, as config dicts or callables; each takes and returns the results dict (`Results`).
        loading: a dict with some of the fields of `Loading`: bad samples and caching.
        test_mode: evaluation: nothing is ever skipped.
        name: name of the dataset, for logs and result files; default: where its files are (`place_name`).

    Raises:
        TypeError: an unknown argument in `loading`.
        ValueError: a pipeline that is not a list, an unknown policy, a fraction outside 0..1, or `skip` at evaluation.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the constructor of each subclass take its arguments under their former names, too, with a warning."""
        super().__init_subclass__(**kwargs)
        accept_former_arguments(cls)

    def __init__(
        self,
        pipeline: Sequence[dict | Transform],
        *,
        loading: Mapping[str, Any] | Loading | None = None,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        loading = argument_group("loading", loading, Loading)
        if loading.bad_samples == "skip" and test_mode:
            raise ValueError(
                "loading=dict(bad_samples='skip') with test_mode=True: an evaluation must not skip images; set "
                "bad_samples='raise'"
            )
        self.max_bad_share = loading.max_bad_share
        self.bad_samples = loading.bad_samples
        self.transforms = build_transforms(pipeline)
        self.test_mode = test_mode
        self.name = name or type(self).__name__
        self._num_cached = _leading_cacheable(self.transforms) if loading.cache_images else 0
        self._cache: dict[int, Results] = {}
        self._index: PackedIndex | None = None
        self._is_bad = torch.zeros(0, dtype=torch.uint8)
        self.on_item: Callable[[int], None] | None = None
        """Called with the index of each item before it is loaded: the loader then knows at which one a worker hangs."""
        self._unusable: dict[str, None] = {}  # paths, in order and once each

    def load_index(self) -> list[dict[str, Any]]:
        """Return one small dict per item (`img_path`, `sample_id`, ...), in the same order on every machine."""
        raise NotImplementedError

    def common_results(self) -> dict[str, Any]:
        """Return what every item's results dict starts with, in addition to the item's own entry of the index."""
        return {}

    def start_results(self, item: dict[str, Any]) -> Results:
        """Return the results dict that enters the pipeline for an entry of the index."""
        return cast(Results, {**self.common_results(), **item})

    @property
    def metainfo(self) -> dict[str, Any]:
        """Plain facts that mmengine hands to metrics and stores in checkpoints."""
        return {"dataset": self.name}

    def full_init(self) -> None:
        """Load the index. mmengine's runner calls this before it starts loader workers; else, the first access does.

        Raises:
            ValueError: the index is empty.
        """
        self._loaded_index()

    def _loaded_index(self) -> "PackedIndex":
        """Return the index; the first call loads it."""
        if self._index is None:
            items = self.load_index()
            self._check_bad_share(list(self._unusable), len(items) + len(self._unusable))
            if not items:
                dropped = f"; {next(iter(self._unusable))} was dropped as a bad sample" if self._unusable else ""
                raise ValueError(f"{self.name}: no samples found{dropped}")
            for transform in self.transforms:
                if isinstance(transform, ChecksIndex):
                    transform.check_index(items)
            self._index = PackedIndex(items)
            # in shared memory: a sample that one loader worker finds bad is bad for all of them
            self._is_bad = torch.zeros(len(items), dtype=torch.uint8).share_memory_()
        return self._index

    def note_unusable(self, error: BadSample) -> None:
        """Handle the error of a file that is read while the index is built: raise it, or list it with `skip`."""
        if self.bad_samples == "raise":
            raise error
        if error.path not in self._unusable:
            logger.warning(f"dropped a bad sample: {error}")
        self._unusable[error.path] = None

    def __len__(self) -> int:
        return len(self._loaded_index())

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.full_init()
        if self.on_item is not None:
            self.on_item(index)
        with seeded_draw(index):
            if self.bad_samples == "raise":
                return self._make(int(index))
            return self._make_or_replace(int(index))

    def item(self, index: int) -> dict[str, Any]:
        """Return an entry of the index, with the paths of an item, without loading it."""
        return self._loaded_index()[int(index)]

    def load(self, index: int) -> dict[str, Any]:
        """Return an item like `dataset[index]`, but raise `BadSample` whatever `bad_samples` is."""
        with seeded_draw(index):
            return self._make(int(index))

    def sample_id_of(self, index: int) -> str:
        """Return the id of an item without loading it."""
        return str(self._loaded_index()[int(index)].get("sample_id", index))

    @property
    def bad_sample_count(self) -> int:
        """Number of `bad_sample_paths`."""
        return len(self.bad_sample_paths)

    @property
    def bad_sample_paths(self) -> list[str]:
        """Paths of the items that this process or its workers have replaced so far, or dropped from the index."""
        if self._index is None:
            return []
        replaced = self._is_bad.nonzero().flatten().tolist()
        return [*self._unusable] + [_path_of(self._index[index]) for index in replaced]

    def _make(self, index: int) -> dict[str, Any]:
        """Run the pipeline on one item."""
        results = self._cache.get(index)
        if results is None:
            results = _run(self.transforms[: self._num_cached], self.start_results(self._loaded_index()[index]))
            if self._num_cached:
                self._cache[index] = _frozen(results)
        return _run(self.transforms[self._num_cached :], results.copy())

    def _make_or_replace(self, index: int) -> dict[str, Any]:
        """Run the pipeline on one item; if it is a bad sample, on others that follow from its index alone."""
        candidates = random.Random(index)
        for _ in range(len(self)):
            try:
                return self._make(index)
            except BadSample as error:
                self._note_bad(index, error)
                index = candidates.randrange(len(self))
        raise BadSample(_path_of(self._loaded_index()[index]), "no usable sample found in its place")

    def _note_bad(self, index: int, error: BadSample) -> None:
        """Remember a bad item; stop when there are too many."""
        if self._is_bad[index]:
            return
        self._is_bad[index] = 1
        logger.warning(f"bad sample replaced: {error}")
        self._check_bad_share(self.bad_sample_paths, len(self) + len(self._unusable))

    def _check_bad_share(self, paths: Sequence[str], count: int) -> None:
        """Raise an error that lists the bad samples if they are too many of `count`."""
        if len(paths) > max(1, self.max_bad_share * count):
            listed = "\n  ".join(paths)
            raise ValueError(
                f"{self.name}: {len(paths)} of {count} samples are bad, more than loading.max_bad_share="
                f"{self.max_bad_share}:\n  {listed}"
            )


def build_transforms(pipeline: Sequence[dict | Transform]) -> list[Transform]:
    """Return the transforms of a pipeline; config dicts are built.

    Raises:
        ValueError: it is not a list.
    """
    if isinstance(pipeline, str) or not isinstance(pipeline, Sequence):
        raise ValueError(f"pipeline: expected a list of transforms, got {repr(pipeline)[:60]}")
    return [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]


def place_name(root: str | Path, files: str | Path) -> str:
    """Return the default name of a dataset, such as `my_data/labels/val`; "" if it has no root.

    Args:
        root: its folder, of which the last part of the path is taken.
        files: the file or folder below `root` that differs between the parts of a dataset, such as its labels.
    """
    folder, files = Path(root).name, Path(files)
    return "" if not folder or files.is_absolute() else f"{folder}/{files.as_posix()}"


def _leading_cacheable(transforms: Sequence[Transform]) -> int:
    """Return how many transforms from the start return the same results each time."""
    count = 0
    while count < len(transforms) and reads_files(transforms[count]):
        count += 1
    return count


def _frozen(results: Results) -> Results:
    """Make the arrays of `results` read-only: a transform that works in place would corrupt the cache."""
    for value in results.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    return results


def _run(transforms: Sequence[Transform], results: Any) -> Any:
    for transform in transforms:
        results = transform(results)
    return results


def _path_of(item: dict[str, Any]) -> str:
    return str(item.get("img_path", item.get("sample_id", "?")))


class PackedIndex:
    """A long list of small dicts, stored pickled in one array.

    Worker processes share its pages: a list of Python objects would be copied into each of them, page by page, as
    reference counts are written. Each access returns a new dict.
    """

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        packed = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([len(item) for item in packed], dtype=np.int64)
        self._buffer = np.frombuffer(b"".join(packed), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> dict[str, Any]:
        start = self._ends[index - 1] if index else 0
        # what was pickled above, in this process or the one it was forked from: nothing of a file is unpickled
        return pickle.loads(self._buffer[start : self._ends[index]].data)
