"""Entries of a foreign checkpoint under our names, by rules that must know every one of them."""

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

Rules = Sequence[tuple[str, str]]
"""Pairs of a pattern that matches their whole name and the template of ours; the first that matches counts."""


def rename_entries(
    state: Mapping[str, Tensor],
    rules: Rules,
    kind: str,
    spell: Callable[[str], str] = str,
    num_entries: int | None = None,
) -> dict[str, Tensor]:
    """Rename every entry; values are not touched.

    Args:
        state: entries under their names.
        rules: of the names.
        kind: of checkpoint, for the message: "an official LSeg checkpoint".
        spell: what a template cannot say, done to each expanded one.
        num_entries: of the file, for the message; default: those of `state`.

    Raises:
        ValueError: no entries, or some without a rule; the first are listed.
    """
    names = {key: _rename(key, rules) for key in state}
    unknown = [key for key, name in names.items() if name is None]
    if unknown or not names:
        shown = ", ".join(unknown[:4])
        count = len(state) if num_entries is None else num_entries
        raise ValueError(f"not {kind}: {len(unknown)} unknown of {count} entries: {shown}")
    return {spell(names[key]): value for key, value in state.items()}


def _rename(key: str, rules: Rules) -> str | None:
    for pattern, template in rules:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return match.expand(template)
    return None
