"""An image that the backbone has seen: one list of names after the other, at the cost of the head."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from torch import Tensor

from openvocab.images.image_content import repeatable
from openvocab.model import OpenVocabModel
from openvocab.predictor.arguments import Classes, as_vocabulary, asked
from openvocab.predictor.remembered_features import RememberedFeatures
from openvocab.structures import Size
from openvocab.text.caption_prompt import Phrase
from openvocab.vocabulary.prompt import Prompt

if TYPE_CHECKING:
    from openvocab.predictor.predictor import Predictor
    from openvocab.results.grounding import GroundingResult


class EncodedImage:
    """One image, ready to be asked for names; `Predictor.encode` makes it.

    The first list of names runs the backbone; the results are those of the predictor. A model that is none of ours sees
    the image anew for each list.

    Args:
        predictor: the predictor.
        image: the image, of any type that a predictor takes.

    Raises:
        TypeError, ValueError: the image cannot be used.
    """

    def __init__(self, predictor: "Predictor", image: Any) -> None:
        self.predictor, self.source = predictor, repeatable(image)
        self._item = predictor.prepare(self.source)
        model = predictor.model
        self._features = RememberedFeatures(model) if isinstance(model, OpenVocabModel) else None

    def __repr__(self) -> str:
        height, width = self.size
        return f"EncodedImage({self._item[1].sample_id}, {height}x{width})"

    @property
    def size(self) -> Size:
        """(height, width) of the image."""
        return self._item[1].original_size

    def __call__(
        self,
        classes: Classes,
        *,
        background: str | None = None,
        min_score: float | None = None,
        scores: bool = False,
    ) -> Any:
        """Predict the image for a list of names; see `Predictor.__call__` for arguments and result."""
        image, sample = self._item
        item = image, asked(sample, as_vocabulary(classes, background))
        return self.predictor.results([item], [self.source], min_score, scores, self._features)[0]

    def ground(
        self, caption: str | Prompt, phrases: Sequence[Phrase] | None = None, *, min_score: float | None = None
    ) -> "GroundingResult":
        """Find the phrases of a caption in the image; see `Predictor.ground` for arguments and result."""
        image, sample = self._item
        item = image, asked(sample, self.predictor.prompt(caption, phrases))
        result: Any = self.predictor.results([item], [self.source], min_score, encoder=self._features)[0]
        return result

    def presence(self, classes: Classes) -> dict[str, float]:
        """Return how likely the image shows each name; see `Predictor.presence`."""
        return self.predictor.presence_of(self._embed, as_vocabulary(classes))

    @cached_property
    def _embed(self) -> Tensor:
        return self.predictor.embed_prepared([self._item])[0]
