"""Images with captions, for contrastive training and for retrieval."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from openvocab.argument_checks import check_choice, check_paths
from openvocab.datasets.base import Loading, PipelineDataset, Transform, place_name
from openvocab.datasets.files.caption_files import read_records
from openvocab.datasets.files.folder_walk import stored_names
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.datasets.transforms.results import Results
from openvocab.files.file_values import count_from_1
from openvocab.registry import DATASETS
from openvocab.vocabulary.class_lists import list_of_names
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key

CaptionChoice = Literal["random", "first"]


class PickCaptions:
    """Keep `count` of an item's captions.

    If an image has fewer, they are repeated in the same order, so that all samples of a batch have the same number.

    Args:
        choice: `random` captions, drawn anew for each access without replacement, or the `first` ones.
        count: number of captions.

    Raises:
        ValueError: an unknown choice, or a count below 1.
    """

    def __init__(self, choice: CaptionChoice, count: int = 1) -> None:
        check_choice("caption", choice, ("random", "first"))
        self.choice, self.count = choice, count_from_1(count, "num_captions")

    def __call__(self, results: Results) -> Results:
        """Replace `captions`."""
        captions = results["captions"]
        distinct = min(self.count, len(captions))
        picked = captions[:distinct] if self.choice == "first" else random.sample(captions, distinct)
        return {**results, "captions": [picked[number % distinct] for number in range(self.count)]}


@DATASETS.register_module()
class CaptionDataset(PipelineDataset):
    """Images and their captions, which one file lists.

    The file has one JSON object per line, `{"image": "images/1.jpg", "captions": ["a red circle"]}`; or it is a `.csv`
    or `.tsv` with a header and one caption per row; or Karpathy's JSON. HTML entities are decoded.

    In training a sample has one caption and no vocabulary. With `test_mode` the dataset is a retrieval task in the form
    of classification: the vocabulary is the list of all distinct captions, `class_ids` are those of an image's captions
    in their order, and (N, K) logits rank texts for images along the rows, images for texts along the columns. The text
    encoder must then take the captions as they are (`templates="none"`), or with a prefix. `RetrievalRecall` decides
    how many captions of an image count, and how it treats equal captions of several images.

    Args:
        annotations: the caption file; see `read_records`.
        pipeline: transforms; default: the image as it is. A mirrored image contradicts captions with left and right.
        root: prefix of every relative path.
        caption: which caption of an image is used in training: a `random` one each time, or the `first`.
        num_captions: number of captions per sample in training; see `PickCaptions`.
        columns: names of the image column and of the caption column in a table.
        split: the parts of Karpathy's JSON to read, `"test"` or `["train", "restval"]`; default: all.
        loading, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: no such file, once the index is loaded.
        TypeError: an unknown argument in `loading`.
        ValueError: a malformed line, no captions, or an image in two lines of JSON; the message states the number of
            the line.
    """

    def __init__(
        self,
        annotations: str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        caption: CaptionChoice = "random",
        num_captions: int = 1,
        columns: tuple[str, str] = ("image", "caption"),
        split: str | Sequence[str] | None = None,
        loading: Mapping[str, Any] | Loading | None = None,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(root=root, annotations=annotations)
        parts = [split] if isinstance(split, str) else list_of_names("split", () if split is None else split)
        super().__init__(
            [LoadImage(), PackSample()] if pipeline is None else pipeline,
            loading=loading,
            test_mode=test_mode,
            name=name or place_name(root, Path(annotations, "+".join(parts))),
        )
        pick = PickCaptions(caption, num_captions)
        if not test_mode:  # after the cached transforms, which must keep all captions; before those that read captions
            self.transforms.insert(self._num_cached, pick)
        self.root, self.annotations = Path(root), annotations
        names = list_of_names("columns", columns)
        if len(names) != 2:
            raise ValueError(f"columns: expected the names of the columns of image and caption, got {columns}")
        self.columns, self.split = (names[0], names[1]), split
        self._vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """All distinct captions with `test_mode`; None in training."""
        self.full_init()
        return self._vocabulary

    def load_index(self) -> list[dict[str, Any]]:
        """Read the caption file."""
        records = read_records(self.root / self.annotations, columns=self.columns, split=self.split)
        names = stored_names(self.root, [record["image"] for record in records])
        items = [
            {"sample_id": record["image"], "img_path": str(self.root / name), "captions": record["captions"]}
            for name, record in zip(names, records)
        ]
        if self.test_mode:
            self._vocabulary = _number_captions(items)
        return items

    def common_results(self) -> dict[str, Any]:
        """Give every item its vocabulary."""
        return {"vocabulary": self._vocabulary}


def _number_captions(items: list[dict[str, Any]]) -> Vocabulary:
    """Return the vocabulary of all captions, in order of appearance, and set `class_ids` of each item.

    Captions that differ only in case or white space are one.
    """
    text_of: dict[str, str] = {}
    for item in items:
        for caption in item["captions"]:
            text_of.setdefault(same_name_key(caption), caption)
    index_of = {key: index for index, key in enumerate(text_of)}
    for item in items:
        item["class_ids"] = tuple(index_of[same_name_key(caption)] for caption in item["captions"])
    return Vocabulary(tuple((caption,) for caption in text_of.values()))  # texts, not names: each stays as it is
