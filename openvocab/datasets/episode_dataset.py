"""Few-shot data in its zero-shot form: one image, two texts, "others" and a class, and no support image."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from openvocab.datasets.base import PipelineDataset
from openvocab.datasets.files.label_table import LabelTable
from openvocab.images.image_io import BadSample
from openvocab.vocabulary.class_lists import load_class_names
from openvocab.vocabulary.vocabulary import Vocabulary

OTHERS, CLASS = 0, 1
"""Indices into the vocabulary of an item."""
OTHERS_NAME = "others"


class EpisodeDataset(PipelineDataset):
    """Items that show one class each, with a vocabulary of their own, ("others", class), as in LSeg (arXiv 2201.03546).

    Test them one a batch; `EpisodeSampler` draws those of training. A label map without its class is a bad sample.

    An entry of the index that a subclass loads holds `class_index`, `seg_map_path`, and for messages `stated_by`: what
    says that the image shows the class. The attributes below are a subclass's own.
    """

    class_names: Sequence[str]
    """Of all parts; texts as the text encoder gets them."""
    classes: Sequence[int]
    """Indices of the classes of this part."""
    label_reader: Callable[[str, int | None], np.ndarray]
    """Reads the ids of one label file of at most so many pixels, (H, W)."""
    label_tables: Mapping[int, LabelTable]
    """By class index: from ids to `OTHERS` and `CLASS`."""

    @property
    def class_of_item(self) -> list[int]:
        """Class index of each item, without loading it."""
        self.full_init()
        return [self._index[position]["class_index"] for position in range(len(self))]

    @property
    def metainfo(self) -> dict[str, Any]:
        """Name and the class names of this part."""
        return {"dataset": self.name, "classes": [self.class_names[index] for index in self.classes]}

    def start_results(self, item: dict[str, Any]) -> dict[str, Any]:
        """Add the vocabulary of the item and the means to read its labels."""
        index = item.pop("class_index")
        name = self.class_names[index]
        without_class = f"no pixel is {name!r}, though {item.pop('stated_by')}"
        return {
            **item,
            "vocabulary": Vocabulary(((OTHERS_NAME,), (name,)), background=OTHERS),
            "label_reader": self.label_reader,
            "label_table": partial(_labels_with_class, self.label_tables[index], without_class),
        }


def one_name_a_class(
    argument: str, class_names: Sequence[str | Sequence[str]] | str | Path, root: Path, count: int | None = None
) -> list[str]:
    """Return the first name of each class.

    Args:
        argument: that gives `class_names`, for messages.
        class_names: see `load_class_names`.
        root: folder of the user's own files.
        count: number of classes that there must be.

    Raises:
        ValueError: another number of classes, names that no vocabulary takes, or one that means all other classes.
    """
    entries = load_class_names(class_names, root, argument)
    if count is not None and len(entries) != count:
        raise ValueError(f"{argument}: expected {count}, one a class, got {len(entries)}")
    try:
        return list(Vocabulary.from_names([*entries, OTHERS_NAME]).class_names[:-1])
    except ValueError as error:
        raise ValueError(f"{argument}, with {OTHERS_NAME!r} as class {len(entries)}: {error}") from error


def _labels_with_class(table: LabelTable, without_class: str, ids: np.ndarray, path: str) -> np.ndarray:
    """Return the labels (H, W) of raw ids; `without_class` is what is wrong where none is `CLASS`.

    Raises:
        BadSample: see `LabelTable`; no pixel of the class.
    """
    labels = table(ids, path)
    if not (labels == CLASS).any():
        raise BadSample(path, without_class)
    return labels
