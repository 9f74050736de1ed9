"""Groups of classes whose names go through a network together."""

from collections.abc import Callable, Iterable, Sequence


def class_groups(
    names: Sequence[Sequence[str]],
    order: Iterable[int],
    names_at_once: int | None,
    max_length: int | None,
    length_of: Callable[[str], int],
) -> list[list[int]]:
    """Divide classes into groups that fit a network; all names of a class are in one group.

    Args:
        names: of K classes, the texts of their names.
        order: class indices, in the order in which the groups are filled.
        names_at_once: largest number of names in a group, None for any; a class with more has a group of its own.
        max_length: largest sum of the lengths of a group; None: no limit.
        length_of: the length of a name, in the unit of `max_length`.

    Returns:
        class indices of each group.

    Raises:
        ValueError: a limit below 1, or the names of a single class are too long.
    """
    if names_at_once is not None and names_at_once < 1:
        raise ValueError(f"names_at_once: expected at least 1, or None for as many as fit, got {names_at_once}")
    groups: list[list[int]] = []
    count = length = 0
    for index in order:
        of_class = sum(map(length_of, names[index])) if max_length is not None else 0
        if max_length is not None and of_class > max_length:
            raise ValueError(
                f"class {index}: its names have {of_class} tokens together, and the network reads at most "
                f"{max_length}: {', '.join(names[index])[:60]!r}"
            )
        count, length = count + len(names[index]), length + of_class
        is_full = names_at_once is not None and count > names_at_once
        if not groups or is_full or (max_length is not None and length > max_length):
            groups.append([])
            count, length = len(names[index]), of_class
        groups[-1].append(index)
    return groups
