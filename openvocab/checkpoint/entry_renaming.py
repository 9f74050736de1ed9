"""Rename the entries of a foreign checkpoint by rules that must cover all of them."""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Rules = Sequence[tuple[str, str]]
"""Pairs of a pattern that matches the complete foreign name and a template of the new one; the first match counts."""


def rename_entries(
    state: Mapping[str, Tensor],
    rules: Rules,
    kind: str,
    spell: Callable[[str], str] = str,
    num_entries: int | None = None,
) -> dict[str, Tensor]:
    """Rename every entry; values are unchanged.

    Args:
        state: entries by their foreign names.
        rules: rules that map foreign names to new ones.
        kind: kind of checkpoint, for the message: "an official LSeg checkpoint".
        spell: function that is applied to each new name, for changes that a template cannot express.
        num_entries: number of entries in the file, for the message; default: that of `state`.

    Raises:
        ValueError: no entries, or entries without a rule; the message lists the first few.
    """
    names: dict[str, str] = {}
    unknown = []
    for key in state:
        name = _rename(key, rules)
        if name is None:
            unknown.append(key)
        else:
            names[key] = name
    if unknown or not names:
        first = ", ".join(unknown[:4])
        count = len(state) if num_entries is None else num_entries
        raise ValueError(f"not {kind}: {len(unknown)} of {count} entries are unknown: {first}")
    return {spell(names[key]): value for key, value in state.items()}


def _rename(key: str, rules: Rules) -> str | None:
    for pattern, template in rules:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return match.expand(template)
    return None
