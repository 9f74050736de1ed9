"""Detection data as text: the names of an image's classes, and of some that are absent, in one prompt."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform

from openvocab.argument_checks import check_flags, check_fraction, check_number
from openvocab.datasets.transforms.objects import take_objects
from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS
from openvocab.structures import Instances, known
from openvocab.text.token_counter import TokenCounter
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt

SEPARATOR = ". "


@TRANSFORMS.register_module()
class DetectionPrompt(BaseTransform):
    """Give an image with labeled objects a `prompt` of class names, as GLIP is trained on detection data.

    The prompt names the classes of the image's objects (positives) and classes that it does not show (negatives), in
    random order: "dog. traffic light. cat". Negatives are drawn anew for each access: with the probability
    `full_negatives` `num_negatives` classes, else a number from 1 to that, without replacement from all classes, of
    which the positives are then removed. Negatives that would exceed the token budget are left out; if the positives
    alone exceed it, whole classes are dropped at random, with their boxes.

    Images of federated data (LVIS) get negatives only from the classes that were verified to be absent; official GLIP
    draws them from all classes, and so calls unlabeled objects wrong. A class of which an image has crowds only is
    neither. All names of a class are phrases of it; the class that means "everything else" is left out. An item that
    has a prompt already, from grounding data, passes unchanged.

    Put it after `LoadInstances`, before the geometry: a class whose objects are cropped away becomes a negative.

    Args:
        tokenizer: what counts tokens as the text encoder does: a folder with a tokenizer, `hf-hub:OWNER/NAME`, or the
            name of an open_clip model (`TokenCounter`), or any callable from text to number.
        num_negatives: how many classes are drawn at most.
        full_negatives: probability that so many are drawn.
        budget: number of tokens of a prompt, without start and end; each name counts with ". ". BERT reads 254
            (official), CLIP's text towers 75.
        all_names: name all classes in the order of the vocabulary, without any draw: the form of fine-tuning.

    Raises:
        ValueError: an argument out of range.

    Reference: arXiv 2112.03857; numbers and order of the draws are those of the official code.
    """

    def __init__(
        self,
        tokenizer: str | Callable[[str], int],
        num_negatives: int = 85,
        full_negatives: float = 0.5,
        budget: int = 254,
        all_names: bool = False,
    ) -> None:
        check_number("num_negatives", num_negatives, 0, whole=True)
        check_fraction("full_negatives", full_negatives)
        check_number("budget", budget, 1, whole=True)
        check_flags({"all_names": all_names})
        self.count_tokens = tokenizer if callable(tokenizer) else TokenCounter(tokenizer)
        self.num_negatives, self.full_negatives = num_negatives, full_negatives
        self.budget, self.all_names = budget, all_names
        self._vocabulary: Vocabulary | None = None
        self._names: list[list[str]] = []
        self._lengths: list[int] = []

    def transform(self, results: Results) -> Results:
        """Set `prompt`, and drop the boxes of positives that do not fit into it.

        Raises:
            ValueError: no vocabulary, a name of which cleaning leaves nothing, names that do not fit into the budget
                (with `all_names`, all of them; else those of a single class), or nothing to name.
        """
        if results.get("prompt") is not None:
            return results
        where = f"DetectionPrompt: sample {results.get('sample_id')!r}"
        self._count_names(known(results.get("vocabulary"), f"vocabulary of {where}"))
        if self.all_names:
            return {**results, "prompt": self._prompt(self._all_classes(where), where)}
        instances = results.get("instances")
        positives, crowded = _present(instances)
        named = self._fitting(np.random.permutation(positives).tolist(), self.budget)
        negatives = self._draw_negatives(results, {*positives, *crowded})
        if len(named) < len(positives):
            negatives = []
        # strictly below the budget, as in the official code
        negatives = self._fitting(negatives, self.budget - 1 - sum(self._lengths[index] for index in named))
        prompt = self._prompt(np.random.permutation([*named, *negatives]).astype(int).tolist(), where)
        if instances is None or len(named) == len(positives):
            return {**results, "prompt": prompt}
        kept = torch.isin(instances.classes, torch.tensor([*named, *crowded], dtype=torch.int64))
        return {**results, "prompt": prompt, "instances": take_objects(instances, kept)}

    def _count_names(self, vocabulary: Vocabulary) -> None:
        """Clean the names of a vocabulary and count their tokens, once."""
        if vocabulary is self._vocabulary or vocabulary == self._vocabulary:
            return
        self._names = [
            [] if index == vocabulary.background else _cleaned(names, index)
            for index, names in enumerate(vocabulary.synonyms)
        ]
        self._lengths = [sum(self.count_tokens(name + SEPARATOR) for name in names) for names in self._names]
        for index, length in enumerate(self._lengths):
            if length > self.budget:
                raise ValueError(
                    f"DetectionPrompt: the class {vocabulary.class_names[index]!r} takes {length} tokens, more than "
                    f"budget={self.budget}; shorten its name, or leave out synonyms"
                )
        self._vocabulary = vocabulary

    def _all_classes(self, where: str) -> list[int]:
        """Return all classes.

        Raises:
            ValueError: they do not fit into one prompt.
        """
        total = sum(self._lengths)
        if total > self.budget:
            raise ValueError(
                f"{where}: all {len(self._names)} classes take {total} tokens, more than budget={self.budget}; draw "
                "some of them (all_names=False)"
            )
        return list(range(len(self._names)))

    def _draw_negatives(self, results: Results, present: set[int]) -> list[int]:
        """Draw classes that are absent from an image, in random order."""
        federated = results.get("federated")
        absent = range(len(self._names)) if federated is None else federated.negative
        candidates = [index for index in absent if self._names[index]]
        most = min(self.num_negatives, len(candidates))
        is_full = np.random.random() < self.full_negatives
        count = most if is_full or not most else np.random.randint(most) + 1
        drawn = np.random.permutation(len(candidates))[:count]
        return [candidates[position] for position in drawn if candidates[position] not in present]

    def _fitting(self, classes: Sequence[int], budget: int) -> list[int]:
        """Return the first classes, up to the one whose names exceed a number of tokens."""
        total, fitting = 0, []
        for index in classes:
            total += self._lengths[index]
            if total > budget:
                break
            fitting.append(index)
        return fitting

    def _prompt(self, classes: Sequence[int], where: str) -> Prompt:
        """Join the names of classes; each name is a phrase of its class."""
        named = [(name, index) for index in classes for name in self._names[index]]
        if not named:
            raise ValueError(f"{where}: neither objects nor absent classes to name; drop images without objects")
        names, owners = zip(*named)
        return names_prompt(names, owners)


def _present(instances: Instances | None) -> tuple[list[int], list[int]]:
    """Return the classes of objects, and those of crowds alone, both ascending."""
    if instances is None:
        return [], []
    no_crowds = torch.zeros(len(instances.classes), dtype=torch.bool)
    is_crowd = no_crowds if instances.is_crowd is None else instances.is_crowd
    positives = instances.classes[~is_crowd].unique().tolist()
    return positives, sorted({*instances.classes[is_crowd].tolist()} - {*positives})


def _cleaned(names: Sequence[str], index: int) -> list[str]:
    """Return the distinct names of a class as prompts contain them.

    Raises:
        ValueError: nothing is left of one.
    """
    prompt = names_prompt(names, [index] * len(names))
    return list(dict.fromkeys(prompt.phrase_texts))
