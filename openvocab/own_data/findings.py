"""What is wrong with a user's data, one line for each kind of mistake."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from openvocab.files.printable_text import printable
from openvocab.own_data.parts import OwnData, Task
from openvocab.own_data.survey import PartSurvey, near_duplicates
from openvocab.vocabulary.vocabulary import some_names

MAX_EXAMPLES = 3
NEAR = 3.0
"""Mean difference of two thumbnails, in 0..255, up to which images count as near duplicates."""


@dataclass(frozen=True)
class Finding:
    """One kind of mistake in one part of the data."""

    part: str
    """The part, or two with "and" between them."""
    what: str
    """What is wrong, as a phrase that follows the count."""
    count: int
    examples: tuple[str, ...]
    stops: bool
    """Whether it stops a training."""

    def __str__(self) -> str:
        level = "error" if self.stops else "warning"
        examples = f": {', '.join(self.examples)}" if self.examples else ""
        more = ", ..." if self.examples and self.count > len(self.examples) else ""
        return printable(f"{level}: {self.part}: {self.count} {self.what}{examples}{more}")


def find(data: OwnData, task: Task, surveys: Mapping[str, PartSurvey]) -> list[Finding]:
    """Return the findings, those that stop a training first.

    Args:
        data: with names.
        task: what it is used for.
        surveys: survey of each part.
    """
    findings = [one for part, survey in surveys.items() for one in _of_part(data, part, task, survey)]
    for (part, survey), (other, another) in combinations(surveys.items(), 2):
        findings += _duplicates(f"{part} and {other}", survey, another)
    findings += _classes(data, surveys)
    return sorted(findings, key=lambda finding: not finding.stops)


def _of_part(data: OwnData, part: str, task: Task, survey: PartSurvey) -> Iterator[Finding]:
    if survey.failure:
        yield Finding(part, "reason why it cannot be read", 1, (survey.failure,), stops=True)
    yield from _listed(part, "images cannot be read", _with_reasons(survey.unreadable), stops=True)
    yield from _listed(part, "label files cannot be used", _with_reasons(survey.bad_labels), stops=True)
    if survey.unknown_ids:
        ids = sorted({one for several in survey.unknown_ids.values() for one in several})
        what = f"label maps have values without a name ({some_names([str(one) for one in ids])})"
        yield from _listed(part, what, [*survey.unknown_ids], stops=True)
    are_maps = data.kind == "label maps"
    yield from _listed(part, "images have no labels", survey.unlabeled, stops=are_maps)
    yield from _listed(
        part, "labels have no image", survey.orphans, stops=are_maps or data.parts[part].labels.is_file()
    )
    for what, paths in survey.bad_boxes.items():
        yield from _listed(part, f"boxes {what}", paths, stops=False)
    yield from _repeated(part, survey)


def _listed(part: str, what: str, paths: Sequence[str], stops: bool) -> Iterator[Finding]:
    if paths:
        examples = tuple(dict.fromkeys(paths))[:MAX_EXAMPLES]
        yield Finding(part, what, len(paths), examples, stops)


def _with_reasons(reasons: Mapping[str, str]) -> list[str]:
    return [f"{path} ({reason})" for path, reason in reasons.items()]


def _repeated(part: str, survey: PartSurvey) -> Iterator[Finding]:
    """Find images that a part has twice."""
    first: dict[str, Path] = {}
    pairs = []
    for image in survey.images:
        if image.digest and first.setdefault(image.digest, image.path) != image.path:
            pairs.append(f"{first[image.digest]} = {image.path}")
    yield from _listed(part, "images are copies of others", pairs, stops=False)


def _duplicates(parts: str, survey: PartSurvey, other: PartSurvey) -> Iterator[Finding]:
    """Find images that two parts share: scores on them are too good."""
    by_digest = {image.digest: image.path for image in survey.images if image.digest}
    same = [image for image in other.images if image.digest in by_digest]
    copies = [f"{by_digest[image.digest]} = {image.path}" for image in same]
    yield from _listed(parts, "images are in both", copies, stops=False)
    rest = [image for image in other.images if image.digest not in by_digest]
    pairs = near_duplicates(rest, survey.images, NEAR)
    alike = [f"{survey.images[index].path} ~ {rest[number].path}" for number, index in pairs]
    yield from _listed(parts, "images look the same in both", alike, stops=False)


def _classes(data: OwnData, surveys: Mapping[str, PartSurvey]) -> Iterator[Finding]:
    """Find classes that a part has no labels of; a part that cannot be read says nothing about them."""
    names = [several[0] for several in data.names or ()]
    train = surveys["train"]
    for part, survey in surveys.items():
        if survey.failure:
            continue
        absent = [name for name, count in zip(names, survey.class_amounts) if not count]
        if part == "train":
            yield from _listed(part, "classes have no labels", absent, stops=len(absent) == len(names))
        elif not train.failure:
            only = np.flatnonzero((survey.class_amounts > 0) & (train.class_amounts == 0))
            yield from _listed(part, "classes are not in train", [names[index] for index in only], stops=False)
