"""Decide which categories of an annotation file are classes: seen, unseen, or neither."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from openvocab.vocabulary.class_lists import class_of_each_id, load_seen_and_unseen
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key

Names = Sequence[str | Sequence[str]]


@dataclass(frozen=True)
class CategoryChoice:
    """The vocabulary of a dataset, and the class of each category id."""

    vocabulary: Vocabulary
    class_of_id: dict[int, int]
    """Indices into `vocabulary`; objects with an id that is not here are ignored."""
    held_out_ids: frozenset[int]
    """Category ids of unseen classes, whose labels are dropped."""


def choose_categories(
    names: Names,
    category_names: Sequence[str],
    category_ids: Sequence[int],
    *,
    ids_of_classes: Sequence[int] | Mapping[int, int] | None,
    unseen: Sequence[str] | str | Path | None,
    train_classes: Literal["all", "seen", "seen_labels"],
    unlisted_ids: Literal["raise", "ignore"],
    root: Path,
) -> CategoryChoice:
    """Match the categories of a file to a class list, and split it.

    Args:
        names: all classes in vocabulary order.
        category_names, category_ids: (C,) of the file.
        ids_of_classes: category ids in class order, or {id: class}; None matches categories to any synonym of a class
            by name, ignoring underscores, case and white space.
        unseen: names or split. If a split also lists the seen names, classes in neither list are dropped.
        train_classes: `seen` drops the unseen classes, `seen_labels` only their labels.
        unlisted_ids: whether a category that is not a class is an error or ignored.
        root: folder of split files.

    Raises:
        ValueError: a split names an unknown class, or one class as both seen and unseen; a category is not a class; or
            two categories have the same name and are matched by name.
    """
    vocabulary = Vocabulary.from_names(names)
    seen_names, unseen_names = (
        (None, None) if unseen is None else load_seen_and_unseen(unseen, root, "class_options.unseen")
    )
    held_out = _classes_of_split(unseen_names or (), vocabulary, unseen)
    split = set(range(len(vocabulary)))
    if seen_names is not None:
        in_training = _classes_of_split(seen_names, vocabulary, unseen)
        _check_disjoint(in_training, held_out, vocabulary, unseen)
        split = held_out | in_training
    chosen = sorted(split - held_out if train_classes == "seen" else split)
    if not chosen:
        raise ValueError(f"class_options.unseen: no class is left for training, all {len(vocabulary)} are unseen")
    class_of_id = _match(vocabulary, category_names, category_ids, ids_of_classes, unlisted_ids)
    new_index = {index: new for new, index in enumerate(chosen)}
    unlabeled = set() if train_classes == "all" else held_out
    labeled = set(chosen) - unlabeled
    flagged = Vocabulary.from_names(names, unseen=unseen_names).subset(chosen)
    flagged.digest  # noqa: B018  computed once here, since it goes with every sample
    return CategoryChoice(
        vocabulary=flagged,
        class_of_id={raw: new_index[index] for raw, index in class_of_id.items() if index in labeled},
        held_out_ids=frozenset(raw for raw, index in class_of_id.items() if index in unlabeled),
    )


def _classes_of_split(
    names: Sequence[str], vocabulary: Vocabulary, source: Sequence[str] | str | Path | None
) -> set[int]:
    """Return the indices of the classes whose first names a split lists (compared by `same_name_key`).

    Raises:
        ValueError: a name is not that of a class.
    """
    index_of = {same_name_key(name): index for index, name in enumerate(vocabulary.class_names)}
    unknown = [name for name in names if same_name_key(name) not in index_of]
    if unknown:
        raise ValueError(
            f"class_options.unseen: {len(unknown)} names of {_source_name(source)} are not among the "
            f"{len(vocabulary)} class names; the first is {unknown[0]!r}; correct the split, or give the class list "
            "that it was made for"
        )
    return {index_of[same_name_key(name)] for name in names}


def _check_disjoint(
    seen: set[int], unseen: set[int], vocabulary: Vocabulary, source: Sequence[str] | str | Path | None
) -> None:
    both = sorted(vocabulary.class_names[index] for index in seen & unseen)
    if both:
        raise ValueError(f"class_options.unseen: {_source_name(source)} lists {both[0]!r} as seen and as unseen")


def _source_name(source: Sequence[str] | str | Path | None) -> str:
    return str(source) if isinstance(source, (str, Path)) else "the given list"


def _match(
    vocabulary: Vocabulary,
    category_names: Sequence[str],
    category_ids: Sequence[int],
    ids_of_classes: Sequence[int] | Mapping[int, int] | None,
    unlisted_ids: Literal["raise", "ignore"],
) -> dict[int, int]:
    """Return the class index, in the complete list, of each category id."""
    if ids_of_classes is None:
        owner = {same_name_key(name): index for index, entry in enumerate(vocabulary.synonyms) for name in entry}
        known = [(raw, name) for raw, name in zip(category_ids, category_names) if same_name_key(name) in owner]
        _check_unique(known)
        class_of_id = {raw: owner.get(same_name_key(name)) for raw, name in zip(category_ids, category_names)}
    else:
        given = class_of_each_id("labels.category_ids", ids_of_classes, len(vocabulary))
        class_of_id = {raw: given.get(raw) for raw in category_ids}
    unlisted = [name for raw, name in zip(category_ids, category_names) if class_of_id[raw] is None]
    if unlisted and unlisted_ids == "raise":
        raise ValueError(
            f"classes: {len(unlisted)} of the file's {len(category_ids)} categories are not classes, such as "
            f"{unlisted[0]!r}; add them, or drop them with unlisted_ids='ignore'"
        )
    return {raw: index for raw, index in class_of_id.items() if index is not None}


def _check_unique(categories: Sequence[tuple[int, str]]) -> None:
    """Check that no two categories (id, name) have the same name by `same_name_key`."""
    alike: dict[str, list[tuple[int, str]]] = {}
    for raw, name in categories:
        alike.setdefault(same_name_key(name), []).append((raw, name))
    for several in alike.values():
        if len(several) > 1:
            names = " and ".join(dict.fromkeys(repr(name) for _, name in several))
            raise ValueError(
                f"classes: the file has the category name {names} {len(several)} times, with the ids "
                f"{[raw for raw, _ in several]}: it is unclear which one is meant; give category_ids, or each category "
                "its own name"
            )
