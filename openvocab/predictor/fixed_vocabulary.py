"""A predictor with one list of names."""

from typing import TYPE_CHECKING, Any

from openvocab.structures import Size
from openvocab.vocabulary.vocabulary import Vocabulary

if TYPE_CHECKING:
    from openvocab.predictor.predictor import Predictor


class FixedVocabulary:
    """A predictor for one list of names: `find(image)`; `Predictor.vocabulary` makes it.

    Args:
        predictor: the predictor.
        vocabulary: the names.
    """

    def __init__(self, predictor: "Predictor", vocabulary: Vocabulary) -> None:
        self.predictor, self.vocabulary = predictor, vocabulary

    def __repr__(self) -> str:
        names = self.names
        more = f", and {len(names) - 5} more" if len(names) > 5 else ""
        return f"{self.predictor!r} for {', '.join(names[:5])}{more}"

    @property
    def names(self) -> tuple[str, ...]:
        """K names."""
        return self.vocabulary.class_names

    def __call__(
        self, image: Any, *, min_score: float | None = None, scores: bool = False, tile: int | Size | None = None
    ) -> Any:
        """Predict one image, or several; see `Predictor.__call__`."""
        return self.predictor(image, self.vocabulary, min_score=min_score, scores=scores, tile=tile)
