"""Images with captions, for contrastive training and for retrieval."""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from openvocab.datasets.base import BadSamplePolicy, PipelineDataset, Transform
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.registry import DATASETS
from openvocab.text.vocabulary import Vocabulary, same_name_key

CaptionChoice = Literal["random", "first"]


@DATASETS.register_module()
class CaptionDataset(PipelineDataset):
    """Images and their captions, one JSON object a line: `{"image": "images/1.jpg", "captions": ["a red circle"]}`.

    In training a sample carries one caption and no vocabulary. With `test_mode` it is a retrieval task that needs no
    path of its own: the vocabulary is the list of all distinct captions, `class_ids` are an image's own, and (N, K)
    logits rank texts for images along the rows, images for texts along the columns. The text encoder must then take the
    captions as they are: `templates="none"`.

    Args:
        annotations: the file of lines.
        pipeline: transforms; by default the image as it is. A mirrored image needs captions without left and right.
        root: put before every relative path.
        caption: which caption of an image is used in training: a `random` one each time, or the `first`.
        bad_samples, max_bad_share, cache_images, test_mode, name: see `PipelineDataset`.

    Raises:
        FileNotFoundError: no such file, when the index is loaded.
        ValueError: a line that is not such an object, no captions, an image listed twice; with the line's number.
    """

    def __init__(
        self,
        annotations: str | Path,
        pipeline: Sequence[dict | Transform] | None = None,
        *,
        root: str | Path = "",
        caption: CaptionChoice = "random",
        bad_samples: BadSamplePolicy = "raise",
        max_bad_share: float = 0.01,
        cache_images: bool = False,
        test_mode: bool = False,
        name: str = "",
    ) -> None:
        super().__init__(
            [LoadImage(), PackSample()] if pipeline is None else pipeline,
            bad_samples=bad_samples,
            max_bad_share=max_bad_share,
            cache_images=cache_images,
            test_mode=test_mode,
            name=name,
        )
        if caption not in ("random", "first"):
            raise ValueError(f"caption: expected 'random' or 'first', got {caption!r}")
        self.root, self.annotations, self.caption = Path(root), annotations, caption
        self._vocabulary: Vocabulary | None = None

    @property
    def vocabulary(self) -> Vocabulary | None:
        """All distinct captions with `test_mode`; None in training."""
        self.full_init()
        return self._vocabulary

    def load_index(self) -> list[dict[str, Any]]:
        """Read the file of lines."""
        records = _read_records(self.root / self.annotations)
        items = [
            {"sample_id": record["image"], "img_path": str(self.root / record["image"]), "captions": record["captions"]}
            for record in records
        ]
        if self.test_mode:
            self._vocabulary = _number_captions(items)
        return items

    def common_results(self) -> dict[str, Any]:
        """Give every item its vocabulary."""
        return {"vocabulary": self._vocabulary}

    def _make(self, position: int) -> dict[str, Any]:
        """Run the pipeline, then pick the caption: what a cache keeps must hold them all."""
        item = super()._make(position)
        if self.test_mode:
            return item
        captions = item["sample"].captions
        picked = captions[0] if self.caption == "first" else random.choice(captions)
        return {**item, "sample": dataclasses.replace(item["sample"], captions=(picked,))}


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
        item["class_ids"] = tuple(dict.fromkeys(number[same_name_key(caption)] for caption in item["captions"]))
    return Vocabulary.from_names(shown.values())


def _read_records(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the data set or point root to it")
    first_line: dict[str, int] = {}
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        record = _parse(line, f"{path}:{number}")
        if record["image"] in first_line:
            raise ValueError(
                f"{path}:{number}: image {record['image']!r} was listed in line {first_line[record['image']]} already; "
                "give all its captions in one line"
            )
        first_line[record["image"]] = number
        records.append(record)
    return records


def _parse(line: str, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{place}: not JSON: {error}") from error
    if not isinstance(record, dict) or not isinstance(record.get("image"), str):
        raise ValueError(f'{place}: expected {{"image": path, "captions": [text, ...]}}, got {line[:80]!r}')
    captions = record.get("captions")
    if not isinstance(captions, list) or not captions:
        raise ValueError(f"{place}: expected a list of at least one caption, got {captions!r}")
    for caption in captions:
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"{place}: expected captions that are non-empty strings, got {caption!r}")
    return record
