"""Small edits of captions, as text augmentation."""

import random
from collections.abc import Mapping, Sequence

from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AddEditedCaption(BaseTransform):
    """Append an edited copy of the first caption: words are deleted, swapped, or replaced at random.

    Three of the four edits of EDA (arXiv 1901.11196). Swapped words can make a caption wrong that binds colors to
    objects, so the default only deletes words. Official DeCLIP: `delete=0.1, swaps=1, one_edit=True` and the synonyms
    of WordNet.

    Args:
        delete: probability of each word to be deleted; at least one word stays.
        swaps: number of pairs of words to swap.
        synonyms: the words that may replace a word; one of the words of a caption that have some is replaced. Default:
            none.
        one_edit: apply one of the requested edits, drawn uniformly, instead of all.

    Raises:
        ValueError: a probability outside 0..1, a negative number of swaps.
    """

    def __init__(
        self,
        delete: float = 0.1,
        swaps: int = 0,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        one_edit: bool = False,
    ) -> None:
        if not 0 <= delete <= 1:
            raise ValueError(f"delete: expected a probability from 0 to 1, got {delete}")
        if swaps < 0:
            raise ValueError(f"swaps: expected 0 or more, got {swaps}")
        self.delete, self.swaps, self.one_edit = delete, swaps, one_edit
        self.synonyms = {word: list(others) for word, others in (synonyms or {}).items() if others}
        edits = (bool(self.synonyms), self._replaced), (swaps > 0, self._swapped), (delete > 0, self._shortened)
        self.edits = [edit for is_requested, edit in edits if is_requested]

    def transform(self, results: Results) -> Results:
        """Extend `captions`.

        Raises:
            ValueError: an item without captions.
        """
        captions = tuple(results.get("captions", ()))
        if not captions:
            raise ValueError(f"AddEditedCaption: {results.get('sample_id', 'an item')!r} has no caption to edit")
        return {**results, "captions": (*captions, self._edited(captions[0]))}

    def _edited(self, caption: str) -> str:
        words = caption.split()
        for edit in [random.choice(self.edits)] if self.one_edit and self.edits else self.edits:
            words = edit(words)
        return " ".join(words)

    def _replaced(self, words: list[str]) -> list[str]:
        candidates = [position for position, word in enumerate(words) if word in self.synonyms]
        if not candidates:
            return words
        position = random.choice(candidates)
        return [*words[:position], random.choice(self.synonyms[words[position]]), *words[position + 1 :]]

    def _swapped(self, words: list[str]) -> list[str]:
        words = list(words)
        for _ in range(self.swaps if len(words) > 1 else 0):
            first, second = random.sample(range(len(words)), 2)
            words[first], words[second] = words[second], words[first]
        return words

    def _shortened(self, words: list[str]) -> list[str]:
        return [word for word in words if random.random() >= self.delete] or [random.choice(words)]
