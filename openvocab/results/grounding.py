"""The result of phrase grounding: the boxes of each phrase of a caption."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from openvocab.argument_checks import check_number
from openvocab.drawing.class_figures import class_counts
from openvocab.images.image_input import rgb_image
from openvocab.results.detection import DetectionResult
from openvocab.vocabulary.prompt import Prompt


@dataclass(repr=False, eq=False)
class GroundingResult(DetectionResult):
    """The objects that the phrases of a caption name, best score first.

    `classes` are the indices of the phrases, and `names` their texts: a phrase that occurs twice has two classes.

    Args:
        boxes, scores, classes, vocabulary, masks, sample_id, source, image_size: see `DetectionResult`.
        prompt: the caption with its P phrases, which are the classes.
    """

    prompt: Prompt = field(kw_only=True)

    @property
    def caption(self) -> str:
        """The caption as it was given."""
        return self.prompt.text

    @property
    def phrases(self) -> tuple[str, ...]:
        """P texts, in the order of the phrases."""
        return self.prompt.phrase_texts

    def of_phrase(self, index: int) -> "GroundingResult":
        """Return the objects of one phrase; `filter(names=...)` returns those of all phrases of a text.

        Args:
            index: 0..P-1, of `phrases`.

        Raises:
            ValueError: there is no such phrase.
        """
        check_number("index", index, 0, whole=True)
        if index >= len(self.phrases):
            raise ValueError(f"index: expected a phrase of 0 to {len(self.phrases) - 1}, got {index}")
        return self[self.classes == index]

    def draw(
        self,
        image: Any = None,
        *,
        min_score: float | None = None,
        max_objects: int | None = None,
        alpha: float | None = None,
        legend: bool = True,
    ) -> np.ndarray:
        """Return a picture of the objects above the caption, whose phrases have the colors of their boxes.

        Args:
            image, min_score, max_objects, alpha: see `DetectionResult.draw`.
            legend: whether to write the caption.

        Returns:
            (H', W', 3) uint8 RGB.
        """
        from openvocab.drawing.box_drawing import MASK_ALPHA, MAX_OBJECTS, MIN_SCORE
        from openvocab.drawing.caption_panel import draw_grounding

        return draw_grounding(
            self.image if image is None else rgb_image(image),
            self,
            self.prompt if legend else None,
            min_score=MIN_SCORE if min_score is None else min_score,
            max_objects=MAX_OBJECTS if max_objects is None else max_objects,
            alpha=MASK_ALPHA if alpha is None else alpha,
        )

    def objects(self) -> list[dict[str, Any]]:
        """Return the rows of `DetectionResult.objects` with `phrase`, the index of the phrase, after the name."""
        rows = zip(self.classes.tolist(), super().objects())
        return [{"name": row["name"], "phrase": phrase, **row} for phrase, row in rows]

    def table(self) -> list[dict[str, Any]]:
        """Return {name, phrase, count, best_score} of each phrase found, the most frequent first."""
        rows = zip(class_counts(self), super().table())
        return [{"name": row["name"], "phrase": phrase, **row} for phrase, row in rows]

    def to_json(self) -> dict[str, Any]:
        """Return {..., caption, phrases, found, objects}; `phrases` are the characters of each, [[begin, end], ...]."""
        value = super().to_json() | {"task": "grounding"}
        objects, found = value.pop("objects"), value.pop("found")
        return value | {"caption": self.caption, "phrases": self._characters(), "found": found, "objects": objects}

    def to_coco(self, image_id: int = 1) -> dict[str, Any]:
        """Return a COCO document with the `caption` of the image and, of each object, the characters of its phrase.

        They are its `tokens_positive`, as in the files of MDETR, which `GroundingDataset` reads.
        """
        document, characters = super().to_coco(image_id), self._characters()
        for image in document["images"]:
            image["caption"] = self.caption
        for annotation in document["annotations"]:
            annotation["tokens_positive"] = characters[annotation["category_id"] - 1]
        return document

    def _characters(self) -> list[list[list[int]]]:
        return [[[*span] for span in ranges] for ranges in self.prompt.phrases]
