"""The result of classification: a probability for each name, for the whole image."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from openvocab.drawing.class_figures import in_one_line
from openvocab.images.image_input import rgb_image
from openvocab.results.base import Result
from openvocab.structures import ClassificationPrediction, Size

MOST_NAMES = 5
"""Names in a representation and in a picture: the most probable ones."""


@dataclass(repr=False, eq=False)
class ClassificationResult(ClassificationPrediction, Result):
    """A probability for each name.

    Args:
        logits, vocabulary, sample_id: see `ClassificationPrediction`.
        source: the image as it was given.
        image_size: (height, width) of the image.
    """

    kind = "scores of whole images"
    source: Any = None
    image_size: Size = (0, 0)

    def __repr__(self) -> str:
        return f"ClassificationResult({self.describe()})"

    def describe(self) -> str:
        """Return the most probable names: `cat 0.910, dog 0.080`."""
        return in_one_line([f"{row['name']} {row['score']:.3f}" for row in self.table()], MOST_NAMES)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self.names)

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return self.image_size

    @property
    def name(self) -> str:
        """The most probable name."""
        return self.names[int(self.logits.argmax())]

    def score(self, name: str) -> float:
        """Return the probability of a name, 0..1.

        Raises:
            ValueError: the name was not asked for.
        """
        return float(self.probabilities[self.indices_of(name)[0]])

    def filter(self, min_score: float | None = None, names: str | Collection[str] | None = None) -> NoReturn:
        """Raise `ValueError`: there is nothing to leave out; `table` lists all names, the most probable first."""
        raise ValueError("a classification has one probability for each name; choose among the rows of result.table()")

    def table(self) -> list[dict[str, Any]]:
        """Return {name, score} of each name, the most probable first."""
        scores = self.probabilities.tolist()
        order = sorted(range(len(self)), key=lambda index: -scores[index])
        return [{"name": self.names[index], "score": round(scores[index], 6)} for index in order]

    def draw(self, image: Any = None, *, max_names: int = MOST_NAMES) -> np.ndarray:
        """Return a picture of the image and the probabilities of the most probable names, (H', W', 3) uint8 RGB.

        Args:
            image: the image, if the result has lost its own.
            max_names: how many names are listed.
        """
        from openvocab.drawing.score_bars import draw_score_bars

        photo = self.image if image is None else rgb_image(image)
        return draw_score_bars(photo, [(row["name"], row["score"]) for row in self.table()[:max_names]])

    def to_json(self) -> dict[str, Any]:
        """Return {image, height, width, task, names, found} for `json.dumps`; `found` is the table."""
        height, width = self.size
        about = {"image": self.sample_id, "height": height, "width": width, "task": "classification"}
        return about | {"names": list(self.names), "found": self.table()}

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Return {scores, names}."""
        return {"scores": self.probabilities.numpy(), "names": np.array(self.names)}

    def to_fiftyone(self) -> Any:
        """Return a `fiftyone.Classification` (pip install fiftyone)."""
        from openvocab.results.fiftyone import fiftyone_classification

        return fiftyone_classification(self.name, self.score(self.name))
