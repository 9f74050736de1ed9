"""Images with captions, for contrastive training and for retrieval."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from openvocab.argument_checks import check_choice, check_paths
from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform, place_name
from openvocab.datasets.files.caption_files import read_records
from openvocab.datasets.files.folder_walk import stored_names
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.files.file_values import count_from_1
from openvocab.registry import DATASETS
from openvocab.vocabulary.class_lists import list_of_names
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key

CaptionChoice = Literal["random", "first"]


class PickCaptions:
    """Keep `count` of an item's captions.

    An image with fewer gives them all and then repeats them in the same order, so that every sample of a batch carries
    as many.

    Args:
        choice: `random` ones without repetition, drawn anew each time, or the `first`.
        count: how many.

    Raises:
        ValueError: an unknown choice, or a count below 1.
    """

    def __init__(self, choice: CaptionChoice, count: int = 1) -> None:
        check_choice("caption", choice, ("random", "first"))
        self.choice, self.count = choice, count_from_1(count, "num_captions")

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Replace `captions`."""
        captions = results["captions"]
        kept = min(self.count, len(captions))
        picked = captions[:kept] if self.choice == "first" else random.sample(captions, kept)
        return {**results, "captions": [picked[number % kept] for number in range(self.count)]}


@DATASETS.register_module()
class CaptionDataset(PipelineDataset):
    """Images and their captions, from a file beside them.

    One JSON object a line, `{"image": "images/1.jpg", "captions": ["a red circle"]}`; a `.csv` or `.tsv` with a header
    and one caption a row; or Karpathy's JSON. HTML entities become characters.

    In training a sample carries one caption and no vocabulary. With `test_mode` it is a retrieval task that needs no
    path of its own: the vocabulary is the list of all distinct captions, `class_ids` are those of an image's captions
    in their order, and (N, K) logits rank texts for images along the rows, images for texts along the columns. The text
    encoder must then take the captions as they are, `templates="none"`, or with a prefix. `RetrievalRecall` decides how
    many captions of an image count, and how equal ones of several images do.

    Args:
        annotations: the caption file; see `read_records`.
        pipeline: transforms; by default the image as it is. A mirrored image needs captions without left and right.
        root: put before every relative path.
        caption: which caption of an image is used in training: a `random` one each time, or the `first`.
        num_captions: how many captions a sample carries in training; see `PickCaptions`.
        columns: of a table: the names of the image's and of the caption's.
        split: of Karpathy's JSON: which parts, `"test"` or `["train", "restval"]`; None takes all.
        bad_samples, max_bad_share, cache_images, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: no such file, when the index is loaded.
        ValueError: a line of another form, no captions, an image in two lines of JSON; with the line's number.
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
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        check_paths(root=root, annotations=annotations)
        parts = [split] if isinstance(split, str) else list_of_names("split", () if split is None else split)
        super().__init__(
            [LoadImage(), PackSample()] if pipeline is None else pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=test_mode,
            name=name or place_name(root, Path(annotations, "+".join(parts))),
        )
        pick = PickCaptions(caption, num_captions)
        if not test_mode:  # behind what is cached, which must hold all captions; before what looks at the picked one
            self.transforms.insert(self._num_cached, pick)
        self.root, self.annotations = Path(root), annotations
        self.columns, self.split = tuple(list_of_names("columns", columns)), split
        if len(self.columns) != 2:
            raise ValueError(f"columns: expected the names of the image's and the caption's, got {columns}")
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
    """Return the vocabulary of all captions, in order of appearance, and give each item the `class_ids` of its own.

    Captions that differ only in case or white space are one.
    """
    shown: dict[str, str] = {}
    for item in items:
        for caption in item["captions"]:
            shown.setdefault(same_name_key(caption), caption)
    number = {key: index for index, key in enumerate(shown)}
    for item in items:
        item["class_ids"] = tuple(number[same_name_key(caption)] for caption in item["captions"])
    return Vocabulary(tuple((caption,) for caption in shown.values()))  # texts, not names: each stays as it is
