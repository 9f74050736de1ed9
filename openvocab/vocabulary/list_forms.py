"""Recognize lists of class names in the formats of other programs, whose marks would become part of the prompts."""

import re
from collections.abc import Sequence

_MARKS = {
    # not 1:30
    "numbered": r"[(（]?(\d+|[a-z])[)）]|\d+\s*(:\s|[：、．])|[\"']\d+[\"']\s*:|class\s+\d+\s*:|[①-⑳]|№\s*\d",
    "like an item of a list": r"[-–—*•·◦▪‣→]\s|\*\*.+\*\*$|\|.*\|$",
    "in quotes": r"(?:b?([\"']).+\1|[“„‘«「].+[”“’»」]),?$",
    "like an entry of a color map": r"(\d{1,3}\s+){3}\D|.+:\d{1,3},\d{1,3},\d{1,3}:",
    "like an entry of a list, with a comma after it": r".*,$",
    "like a list or mapping of Python or JSON": r"\[|\{(?!\})|\(\s*[\"']|[\w ]+=\s*([\[({\"']|dict\()",  # not {}
    "like YAML": r"(((class|label|category)[_ ])?(names|classes|labels|categories)|nc)\s*[:=]|(display_)?name\s*:",
    "like a label map (.pbtxt)": r"\w+\s*\{\s*($|\w+\s*:)",
    "like XML or HTML": r"<[?!/]|<\w.*</\w+>",
    "like an id of WordNet": r"(.*[\s,(])?n\d{8}(?!\d)|.*\w\.[nvars]\.\d\d?\W*$",
    "like an id of Open Images": r"(.*[\s,(])?/[mgt]/\w",
}
"""What an entry looks like: the pattern at its start."""
_MAX_CHARACTERS = 200
"""Characters of a name that are examined."""
_STOP, _STOP_AFTER_WORD = re.compile(r"\.(?=\s|$)"), re.compile(r"\w{3}\.(?=\s|$)")
_NUMBERED = (
    re.compile(r"(?P<number>\d{1,6})\s*[\s.,;:=_–-]\s*(?P<rest>\D.*|\d+\D.*)"),
    re.compile(r"(?P<rest>.*\D)[\s,;:=]\s*(?P<number>\d{1,6})"),
)
"""A number before the name, or after it."""


def foreign_form(names: Sequence[str]) -> tuple[int, str] | None:
    """Return the index of the first entry that is not just the name of a class, and why; None if all are.

    A number alone proves nothing: `7 up` and `boeing 737` are names. It counts if each entry has one, they increase
    from 0 or 1, few are missing, and the rests differ, as names do (those of `1 euro, 2 euro` do not).

    Args:
        names: as a user wrote them, one entry per class; white space around them is ignored.
    """
    names = [name.strip()[:_MAX_CHARACTERS] for name in names]
    for index, name in enumerate(names):
        if name.replace(" ", "").isalpha():  # like most names, and without any mark
            continue
        form = next((form for form, mark in _MARKS.items() if re.match(mark, name, re.IGNORECASE)), None)
        if form is None and _is_prompt(name, alone=len(names) == 1):
            form = "like a prompt of several names with full stops"
        if form is not None:
            return index, f"{name[:60]!r} looks {form}"
    if len(names) == 1 and "," in names[0]:
        return 0, f"{names[0][:60]!r} looks like several names with commas between them"
    heading = 1 if len(names) > 3 and not _are_numbered(names) else 0  # of a table
    if _are_numbered(names[heading:]):
        return heading, f"{names[heading][:60]!r} looks numbered, as do all that follow"
    return None


def _is_prompt(name: str, alone: bool) -> bool:
    """Return whether a text is `cat. dog.`, the form of Grounding DINO; `dr. pepper` and `st. bernard` are not.

    Nor is one of several entries, which may be a name with abbreviations, such as that of a plant.
    """
    stops = len(_STOP.findall(name))
    return " . " in name or (alone and stops > 1 and stops == len(_STOP_AFTER_WORD.findall(name)))


def _are_numbered(names: Sequence[str]) -> bool:
    for form in _NUMBERED:
        matches = [match for name in names if (match := form.fullmatch(name)) is not None]
        if len(names) > 1 and len(matches) == len(names):
            numbers = [int(match["number"]) for match in matches]
            rests = {match["rest"].casefold() for match in matches}
            rising = all(first < second for first, second in zip(numbers, numbers[1:]))
            return rising and numbers[0] < 2 and numbers[-1] < 2 * len(names) and len(rests) == len(names)
    return False
