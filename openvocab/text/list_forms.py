"""Lists of class names in the forms of other programs, whose marks would become part of the texts."""

import re
from collections.abc import Sequence

_MARKS = (
    (re.compile(r"[-–—*•·]\s"), "an item of a list"),
    (re.compile(r"\(?(?:\d+|[a-z])\)|\d+\s*:\s", re.IGNORECASE), "numbered"),  # not 1:30
    (re.compile(r"(?:.*\s)?n\d{8}(?!\d)"), "a WordNet id"),
    (re.compile(r"\[|\{(?!\})"), "a list or mapping of Python or JSON"),  # {} may be a name
    (re.compile(r"\(\s*[\"']"), "a list of Python"),
    (re.compile(r"\w+\s*\{\s*(?:$|\w+\s*:)"), "a label map (.pbtxt)"),
    (
        re.compile(
            r"(?:(?:(?:class|label|category)[_ ])?(?:names|classes|labels|categories)|nc)\s*[:=]", re.IGNORECASE
        ),
        "YAML or Python",
    ),
    (re.compile(r"[\w ]+=\s*(?:[\[({\"']|dict\()"), "Python"),
    (re.compile(r"<[?!/]|<(\w+)[^>]*>.*</\1>"), "XML or HTML"),
    (re.compile(r"(?:([\"']).+\1|[“‘].+[”’]),?$"), "in quotes"),
    (re.compile(r".*,$"), "with a comma behind it"),
)
"""What a name begins with in such a form, and what that is called."""
_STOP, _STOP_BEHIND_WORD = re.compile(r"\.(?=\s|$)"), re.compile(r"\w{3}\.(?=\s|$)")
_NUMBERED = (
    re.compile(r"(?P<number>\d{1,6})\s*[\s.,;:=_–-]\s*(?P<rest>\D.*|\d+\D.*)"),
    re.compile(r"(?P<rest>.*\D)[\s,;:=]\s*(?P<number>\d{1,6})"),
)
"""A number before the name, or behind it."""


def foreign_form(names: Sequence[str]) -> tuple[int, str] | None:
    """Return the place of the first entry that is not the bare name of a class, and why; None where all are.

    A number alone is no proof: `7 up` and `boeing 737` are names. It counts where each entry has one, they rise from
    entry to entry from 0 or 1, few are left out, and what remains differs, as names do (`1 euro, 2 euro` does not).

    Args:
        names: as a user wrote them, one entry a class; white space around them does not count.
    """
    names = [name.strip() for name in names]
    for place, name in enumerate(names):
        form = next((form for mark, form in _MARKS if mark.match(name)), None)
        if form is None and _is_prompt(name):
            form = "a prompt of several names with full stops"
        if form is not None:
            return place, f"{name[:60]!r} looks {'' if form.startswith(('in ', 'with ', 'num')) else 'like '}{form}"
    if len(names) == 1 and "," in names[0]:
        return 0, f"{names[0][:60]!r} looks like several names with commas between them"
    heading = 1 if len(names) > 2 and not _are_numbered(names) else 0  # of a table
    if _are_numbered(names[heading:]):
        return heading, f"{names[heading][:60]!r} looks numbered, as all that follow"
    return None


def _is_prompt(name: str) -> bool:
    """Say whether a text is `cat. dog.`, as Grounding DINO takes names; `dr. pepper` and `st. bernard` are none."""
    stops = len(_STOP.findall(name))
    return " . " in name or (stops > 1 and stops == len(_STOP_BEHIND_WORD.findall(name)))


def _are_numbered(names: Sequence[str]) -> bool:
    for form in _NUMBERED:
        found = [form.fullmatch(name) for name in names]
        if len(found) > 1 and all(found):
            numbers = [int(match["number"]) for match in found]
            rests = {match["rest"].casefold() for match in found}
            rising = all(first < second for first, second in zip(numbers, numbers[1:]))
            return rising and numbers[0] < 2 and numbers[-1] < 2 * len(names) and len(rests) == len(names)
    return False
