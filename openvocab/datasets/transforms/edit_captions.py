"""Small edits of captions, as text augmentation."""

import random

from mmcv.transforms import BaseTransform

from openvocab.registry import TRANSFORMS


@TRANSFORMS.register_module()
class AddEditedCaption(BaseTransform):
    """Append an edited copy of the first caption: words left out at random, pairs of words exchanged.

    Two of the four edits of EDA (arXiv 1901.11196), which DeCLIP uses; the other two need a thesaurus. Exchanged words
    can make a caption wrong where it binds colours to things, so the default leaves words out only.

    Args:
        delete: probability of each word to be left out; one always stays.
        swaps: pairs of words to exchange.

    Raises:
        ValueError: a probability outside 0..1, a negative number of swaps.
    """

    def __init__(self, delete: float = 0.1, swaps: int = 0) -> None:
        if not 0 <= delete <= 1:
            raise ValueError(f"delete: expected a probability from 0 to 1, got {delete}")
        if swaps < 0:
            raise ValueError(f"swaps: expected 0 or more, got {swaps}")
        self.delete, self.swaps = delete, swaps

    def transform(self, results: dict) -> dict:
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
        for _ in range(self.swaps if len(words) > 1 else 0):
            first, second = random.sample(range(len(words)), 2)
            words[first], words[second] = words[second], words[first]
        kept = [word for word in words if random.random() >= self.delete]
        return " ".join(kept or [random.choice(words)])
