"""The grounding files of the Shapes world: captions whose phrases have boxes, as ODVG JSON lines."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openvocab.datasets.shapes.captions import Caption
from openvocab.datasets.shapes.classes import is_unseen
from openvocab.datasets.shapes.plan import Picture
from openvocab.datasets.shapes.scene import IMAGE_SIZE

VERSION = 1
"""Part of the names of the files: another one whenever the same parameters give different lines."""
SPLITS = ("train", "val")


def grounding_name(split: str) -> str:
    """Return the name of the grounding file of a split."""
    return f"grounding_v{VERSION}_{split}.jsonl"


def has_grounding(picture: Picture) -> bool:
    """Return whether the captions of a picture are grounded: those of the dense part of train, and of val.

    The other pictures of train have unseen objects, whose boxes training must not see.
    """
    return picture.split == "val" or picture.seen_only


def grounding_lines(picture: Picture, captions: Sequence[Caption], instances: Sequence[Mapping[str, Any]]) -> str:
    """Return one JSON line per caption of a picture.

    Args:
        picture: the picture.
        captions: its captions.
        instances: COCO annotations of its objects, which the phrases index.
    """
    lines = []
    for caption in captions:
        regions = [
            {
                "bbox": [_corners(instances[index]["bbox"]) for index in phrase.objects],
                "phrase": " ".join(caption.text[begin:end] for begin, end in phrase.ranges),
                "tokens_positive": [list(characters) for characters in phrase.ranges],
                "type": "unseen" if is_unseen(instances[phrase.objects[0]]["category_id"] - 1) else "seen",
            }
            for phrase in caption.phrases
        ]
        record = {
            "filename": Path(picture.path).name,
            "height": IMAGE_SIZE,
            "width": IMAGE_SIZE,
            "grounding": {"caption": caption.text, "regions": regions},
        }
        lines.append(json.dumps(record) + "\n")
    return "".join(lines)


def _corners(box: Sequence[int]) -> list[int]:
    left, top, width, height = box
    return [left, top, left + width, top + height]
