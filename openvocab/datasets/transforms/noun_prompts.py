"""Nouns of captions as prompts: the targets of GroupViT's multi-label loss (arXiv 2202.11094)."""

import random
import re
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from mmcv.transforms import BaseTransform

from openvocab.datasets.transforms.results import Results
from openvocab.registry import TRANSFORMS
from openvocab.text.noun_phrases import noun_runs, tagged_words
from openvocab.text.templates import fill_template, resolve_templates
from openvocab.vocabulary.vocabulary import read_class_names, same_name_key

NounExtractor = Callable[[str], Sequence[str]]


@TRANSFORMS.register_module()
class RuleNouns:
    """Extract nouns by rules of thumb for English captions, which need no data.

    1. Function words, words for the picture and positions in it ("photo", "left", "corner"), digits and punctuation
       split the caption into runs of content words. So does a word in -ing after another word of its run
       ("man | riding").
    2. The noun of a run is its last word; words in -ing and -ed at its end are dropped first ("car parked"), except the
       common nouns among them ("building", "bed").
    3. A run right after a form of "be" is a predicate ("the star is yellow"), unless another function word opens it
       ("is a circle").

    The rules find most objects of plain captions, miss nouns used as modifiers, and take some adjectives for nouns: a
    tagger (`NltkNouns`) is better if its data is installed. In a language without these function words they find one
    noun per sentence.

    Args:
        words: number of words to return from the end of each run: 1 the noun ("circle"), 2 also the word before it
            ("red circle"), None the whole run ("striped red circle").

    Raises:
        ValueError: a number below 1.
    """

    def __init__(self, words: int | None = 1) -> None:
        if words is not None and words < 1:
            raise ValueError(f"RuleNouns: words: expected at least 1, or None for whole phrases, got {words}")
        self.words = words

    def __call__(self, text: str) -> list[str]:
        """Return the distinct nouns, in order of appearance, lower case."""
        runs = [[word.text for word in run] for run in noun_runs(text)]
        return list(dict.fromkeys(" ".join(run if self.words is None else run[-self.words :]) for run in runs))


@TRANSFORMS.register_module()
class WordListNouns:
    """Extract the names of a list that occur in the caption as whole words; plurals in -s and -es count.

    Longer names are matched first, and a word belongs to one name only ("hot dog" is no "dog"). With the class names of
    an evaluation as the list, training has seen these names: report that with the score.

    Args:
        names: the names, or the path of a names file (one per line, `;` between synonyms).

    Raises:
        FileNotFoundError, ValueError: see `read_class_names`; an empty list.
    """

    def __init__(self, names: Sequence[str] | str | Path) -> None:
        if isinstance(names, (str, Path)):
            names = [name for entry in read_class_names(names) for name in entry]
        keys = sorted({same_name_key(name) for name in names} - {""}, key=len, reverse=True)
        if not keys:
            raise ValueError("names: expected at least one name, got an empty list")
        self._pattern = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, keys))})(?:e?s)?(?!\w)")

    def __call__(self, text: str) -> list[str]:
        """Return the distinct names, in order of appearance, as the list spells them in lower case."""
        return list(dict.fromkeys(self._pattern.findall(same_name_key(text))))


@TRANSFORMS.register_module()
class NltkNouns:
    """Extract the words that NLTK's part-of-speech tagger labels as nouns (tags NN, NNS, NNP).

    GroupViT's code splits the caption into sentences first; here the whole caption is tokenized at once, which needs no
    second data package.

    Args:
        verbs: also extract the words with tags VB*, as GroupViT's code does.

    Raises:
        ImportError: nltk, or the data of its tagger, is not installed; the message states the command.
    """

    def __init__(self, verbs: bool = False) -> None:
        self.verbs = verbs
        self("a test")

    def __call__(self, text: str) -> list[str]:
        """Return the nouns as often as they occur, in order of appearance."""
        return [word for word, tag in tagged_words(text, "NltkNouns", "RuleNouns") if self._is_extracted(tag)]

    def _is_extracted(self, tag: str) -> bool:
        return tag in ("NN", "NNS", "NNP") or (self.verbs and tag.startswith("VB"))


@TRANSFORMS.register_module()
class AddNounPrompts(BaseTransform):
    """Append `count` prompts made of the caption's nouns: `captions` = (caption, prompt 1, ..., prompt `count`).

    Nouns are drawn without replacement, and a template is drawn for each. If there are too few nouns, the caption
    itself, without a template, is used instead of the missing prompts.

    Args:
        count: K of the multi-label loss.
        extractor: caption in, nouns out: any callable, or a config of `RuleNouns` (default), `WordListNouns` or
            `NltkNouns`.
        templates: a named set or a list; see `resolve_templates`.
        repeat: repeat the drawn nouns instead of the caption: for a loss that accounts for equal texts and compares
            prompts with single segments, none of which shows the whole caption.
        distinct: draw from the distinct nouns of a caption. GroupViT's code draws from all words, so that a word that
            occurs twice may be drawn twice.

    Raises:
        ValueError: a count below 1; an item with more than one caption, or with none.
    """

    def __init__(
        self,
        count: int = 3,
        extractor: dict[str, Any] | NounExtractor | None = None,
        templates: str | Sequence[str] = "imagenet80",
        repeat: bool = False,
        distinct: bool = True,
    ) -> None:
        if count < 1:
            raise ValueError(f"AddNounPrompts: count: expected at least 1, got {count}")
        self.count = count
        extractor = RuleNouns() if extractor is None else extractor
        self.extractor = TRANSFORMS.build(extractor) if isinstance(extractor, dict) else extractor
        self.templates = resolve_templates(templates)
        self.repeat, self.distinct = repeat, distinct

    def transform(self, results: Results) -> Results:
        """Extend `captions`."""
        captions = results.get("captions", ())
        if len(captions) != 1:
            raise ValueError(
                f"AddNounPrompts: expected one caption, got {len(captions)} for {results.get('sample_id')!r}; "
                "it belongs in a training pipeline with num_captions=1"
            )
        caption = captions[0]
        nouns = list(self.extractor(caption))
        if self.distinct:
            nouns = list(dict.fromkeys(nouns))
        drawn = random.sample(nouns, min(self.count, len(nouns)))
        if self.repeat and drawn:
            drawn = list(islice(cycle(drawn), self.count))
        prompts = [fill_template(random.choice(self.templates), noun) for noun in drawn]
        return {**results, "captions": (caption, *prompts, *[caption] * (self.count - len(prompts)))}
