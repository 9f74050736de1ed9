"""Few-shot data in the zero-shot form: one image, the two texts "others" and a class name, and no support image."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openvocab.datasets.base import PipelineDataset
from openvocab.datasets.files.label_table import LabelTable
from openvocab.datasets.transforms.results import Results
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.class_lists import load_class_names
from openvocab.vocabulary.vocabulary import Vocabulary

OTHERS, CLASS = 0, 1
"""Indices into the vocabulary of an item."""
OTHERS_NAME = "others"


class EpisodeDataset(PipelineDataset):
    """Items that show one class each, with a vocabulary of their own, ("others", class), as in LSeg (arXiv 2201.03546).

    Test with a batch size of one; `EpisodeSampler` draws the training items. A label map without its class is a bad
    sample.

    A subclass sets `class_names`, defines the properties below, and loads an index whose entries hold `class_index`,
    `seg_map_path`, and for messages `stated_by`: the source which states that the image shows the class.
    """

    class_names: Sequence[str]
    """The classes of all parts, as the text encoder gets them."""

    @property
    def classes(self) -> Sequence[int]:
        """Indices of the classes of this part."""
        raise NotImplementedError

    @property
    def label_reader(self) -> Callable[[str | Path, int | None], np.ndarray]:
        """(path, largest number of pixels) -> raw label ids, (H, W)."""
        raise NotImplementedError

    @property
    def label_tables(self) -> Mapping[int, LabelTable]:
        """By class index: from raw ids to `OTHERS` and `CLASS`."""
        raise NotImplementedError

    @property
    def class_of_item(self) -> list[int]:
        """Class index of each item, without loading it."""
        index = self._loaded_index()
        return [index[position]["class_index"] for position in range(len(index))]

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name and the class names of this part."""
        return {"dataset": self.name, "classes": [self.class_names[index] for index in self.classes]}

    def start_results(self, item: dict[str, Any]) -> Results:
        """Add the vocabulary of the item, and the functions that read its labels."""
        index = item.pop("class_index")
        name = self.class_names[index]
        without_class = f"no pixel is {name!r}, though {item.pop('stated_by')}"
        own = {
            "vocabulary": Vocabulary(((OTHERS_NAME,), (name,)), background=OTHERS),
            "label_reader": self.label_reader,
            "label_table": partial(_labels_with_class, self.label_tables[index], without_class),
        }
        return super().start_results({**item, **own})


def one_name_per_class(
    argument: str, class_names: Sequence[str | Sequence[str]] | str | Path, root: Path, count: int | None = None
) -> list[str]:
    """Return the first name of each class.

    Args:
        argument: the argument that gives `class_names`, for messages.
        class_names: see `load_class_names`.
        root: folder of the user's own files.
        count: expected number of classes; default: any.

    Raises:
        ValueError: the wrong number of classes, names that a vocabulary rejects, or the name "others" itself.
    """
    entries = load_class_names(class_names, root, argument)
    if count is not None and len(entries) != count:
        raise ValueError(f"{argument}: expected {count}, one per class, got {len(entries)}")
    try:
        return list(Vocabulary.from_names([*entries, OTHERS_NAME]).class_names[:-1])
    except ValueError as error:
        raise ValueError(f"{argument}, with {OTHERS_NAME!r} as class {len(entries)}: {error}") from error


def _labels_with_class(table: LabelTable, without_class: str, ids: np.ndarray, path: str) -> np.ndarray:
    """Return the labels (H, W) of raw ids (H, W).

    Raises:
        BadSample: see `LabelTable`; no pixel of the class, with the message `without_class`.
    """
    labels = table(ids, path)
    if not (labels == CLASS).any():
        raise BadSample(path, without_class)
    return labels
