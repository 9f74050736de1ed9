"""Find class lists and splits: those that come with the package by name, a user's own files by path."""

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from openvocab.files.file_values import whole_numbers
from openvocab.files.text_files import read_json
from openvocab.vocabulary.vocabulary import read_class_names, same_name_key, spaced

CLASS_NAMES_FOLDER = Path(__file__).parent / "class_names"
SPLITS_FOLDER = Path(__file__).parent / "splits"
SEEN_KEYS, UNSEEN_KEYS = ("seen", "base"), ("unseen", "novel")
FREQUENCY_KEYS = ("rare", "common", "frequent")


def class_names_path(name_or_path: str | Path, argument: str = "classes", root: str | Path = "") -> Path:
    """Return the path of a names file, to be read with `read_class_names`.

    Args:
        name_or_path: a user's file, or a list of the package (`ade20k_150`).
        argument: name of the argument, for messages.
        root: folder of a relative path.

    Raises:
        ValueError: it is neither; the message lists the known names.
    """
    return _find(name_or_path, CLASS_NAMES_FOLDER, ".txt", f"{argument}: no class list", root)


def load_split(name_or_path: str | Path, argument: str = "split", root: str | Path = "") -> dict[str, Any]:
    """Return a split.

    Args:
        name_or_path: a user's JSON file, or a split of the package: `coco_48_17`, `lvis_866_337`, `pascal5i`,
            `coco20i`, `fss1000`.
        argument: name of the argument, for messages.
        root: folder of a relative path.

    Returns:
        The keys `base` and `novel` (lists of class names), or `classes` (name of the class list) and `folds` (class ids
        of each fold, counted from 0 without background), or `parts` (folders of each part); `source` states the origin.

    Raises:
        ValueError: neither a known split nor a file, or a file that is not a JSON object with lists of names.
    """
    path = _find(name_or_path, SPLITS_FOLDER, ".json", f"{argument}: no split", root)
    split = read_json(path)
    if not isinstance(split, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(split).__name__}")
    for key in (*SEEN_KEYS, *UNSEEN_KEYS, *FREQUENCY_KEYS):
        if key in split and not (isinstance(split[key], list) and all(isinstance(name, str) for name in split[key])):
            raise ValueError(f"{path}: expected a list of class names under {key!r}, got {str(split[key])[:60]}")
        if key in split:
            split[key] = [spaced(name) for name in split[key]]
    return split


def load_class_names(
    classes: Sequence[str | Sequence[str]] | str | Path, root: Path, argument: str = "classes"
) -> list[str | Sequence[str]]:
    """Return class names, or synonyms per class, given as a list, a file below `root`, or a list of the package.

    Raises:
        ValueError: no list, or neither a file nor a known list; the message names the argument.
    """
    if isinstance(classes, (str, os.PathLike)):
        return [*read_class_names(class_names_path(classes, argument, root))]
    return _listed(argument, classes)


def list_of_names(argument: str, names: Sequence[str]) -> list[str]:
    """Return the names in the list that an argument gives.

    Raises:
        ValueError: not a list, or an element that is not a string.
    """
    listed = _listed(argument, names)
    wrong = [name for name in listed if not isinstance(name, str)]
    if wrong:
        raise ValueError(f"{argument}: expected a list of names, got the element {wrong[0]!r}")
    return listed


def load_unseen(unseen: Sequence[str] | str | Path, root: Path, argument: str = "unseen") -> list[str]:
    """Return the unseen names, given as a list, a split file below `root`, or a split of the package.

    Args:
        unseen: see above.
        root: folder of a relative path.
        argument: its name, for messages.

    Raises:
        ValueError: no such split, or one that names no unseen classes.
    """
    return load_seen_and_unseen(unseen, root, argument)[1]


def load_seen_and_unseen(
    unseen: Sequence[str] | str | Path, root: Path, argument: str = "unseen"
) -> tuple[list[str] | None, list[str]]:
    """Return the seen names, None if the split does not list them, and the unseen names; see `load_unseen`."""
    if not isinstance(unseen, (str, os.PathLike)):
        return None, list_of_names(argument, unseen)
    split = load_split(unseen, argument, root)
    seen, novel = (next((split[key] for key in keys if key in split), None) for keys in (SEEN_KEYS, UNSEEN_KEYS))
    if novel is None:
        raise ValueError(f"{argument}: split {unseen} has neither 'unseen' nor 'novel'; its keys are {sorted(split)}")
    return None if seen is None else list(seen), list(novel)


def load_frequencies(name_or_path: str | Path, class_names: Sequence[str], root: str | Path = "") -> list[str]:
    """Return (K,) letters r, c or f: whether each class is rare, common or frequent in the training images.

    Args:
        name_or_path: `lvis_frequencies`, or a JSON file with the lists "rare", "common" and "frequent".
        class_names: the classes in vocabulary order; compared by `same_name_key`.
        root: folder of a relative path.

    Raises:
        ValueError: no such file, or a class that is in none of the lists.
    """
    lists = load_split(name_or_path, "labels.frequencies", root)
    letter_of = {same_name_key(name): key[0] for key in FREQUENCY_KEYS for name in lists.get(key, ())}
    without = [name for name in class_names if same_name_key(name) not in letter_of]
    if without:
        raise ValueError(
            f"labels.frequencies: {name_or_path} lists {len(without)} of {len(class_names)} classes in none of "
            f"'rare', 'common' and 'frequent'; the first is {without[0]!r}"
        )
    return [letter_of[same_name_key(name)] for name in class_names]


def class_of_each_id(argument: str, ids: Sequence[int] | Mapping[int, int], count: int) -> dict[int, int]:
    """Return the class index of each id of a dataset's files.

    Args:
        argument: name of the argument that `ids` come from, for messages.
        ids: one id per class, in class order, or {id: class index}.
        count: number of classes.

    Raises:
        ValueError: a set, an id that is not an integer, a number of ids other than that of the classes, one id for two
            classes, or an index that is not that of a class.
    """
    classes: Sequence[int]
    if isinstance(ids, Mapping):
        raw_ids, classes = whole_numbers(ids.keys(), argument), whole_numbers(ids.values(), argument)
    elif isinstance(ids, Set):
        raise ValueError(f"{argument}: expected a list, in class order, or {{id: class index}}, got {repr(ids)[:60]}")
    else:
        raw_ids, classes = whole_numbers(ids, argument), range(count)
        if len(raw_ids) != count:
            raise ValueError(f"{argument}: expected {count}, one per class, got {len(raw_ids)}")
    check_one_class_each(argument, "id", raw_ids)
    wrong = {raw_id: index for raw_id, index in zip(raw_ids, classes) if not 0 <= index < count}
    if wrong:
        raise ValueError(f"{argument}: expected class indices below {count}, got {wrong}; omit ids without a class")
    return dict(zip(raw_ids, classes))


def check_one_class_each(argument: str, noun: str, values: Sequence[Hashable]) -> None:
    """Check that each of `values` (what they are is `noun`: "id", "folder") belongs to one class only.

    Raises:
        ValueError: a value that is given twice.
    """
    if twice := [value for value, count in Counter(values).items() if count > 1]:
        raise ValueError(f"{argument}: {noun} {twice[0]!r} is given for two classes; each {noun} belongs to one class")


def _listed(argument: str, values: Iterable[Any]) -> list[Any]:
    """Return the elements of a list; a set, a mapping, or a single text or number is rejected."""
    if isinstance(values, (str, bytes, Mapping, Set)) or not isinstance(values, Iterable):
        raise ValueError(f"{argument}: expected a list of names, got {repr(values)[:60]}")
    return list(values)


def _find(name_or_path: str | Path, folder: Path, extension: str, problem: str, root: str | Path) -> Path:
    if isinstance(name_or_path, (str, os.PathLike)):
        below_root = Path(root) / name_or_path
        if root and below_root.is_file():
            return below_root
        known = folder / f"{name_or_path}{extension}"
        if known.parent == folder and known.is_file():
            return known
        path = Path(name_or_path).expanduser()
        if path.is_file():
            return path
    names = ", ".join(sorted(file.stem for file in folder.glob(f"*{extension}")))
    raise ValueError(f"{problem} {str(name_or_path)!r} and no such file; known: {names}")


def check_unseen_given(train_classes: str, unseen: Sequence[str] | str | Path | None) -> None:
    """Check that the unseen classes are given if a dataset trains on its seen classes only.

    Raises:
        ValueError: they are not.
    """
    if train_classes != "all" and unseen is None:
        raise ValueError(
            f"class_options.train_classes: {train_classes!r} needs class_options.unseen: the names, or the split file "
            "that lists the classes without labels"
        )
