"""The class names of a dataset or a user, with synonyms."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import Literal, get_args

from openvocab.argument_checks import check_choice
from openvocab.files.text_files import read_text
from openvocab.vocabulary.list_forms import foreign_form

SynonymMerge = Literal["mean", "max"]
_INVISIBLE = {"Cf", "Zs", "Zl", "Zp"}  # Unicode categories; Cf: zero-width characters
_OTHER_SEPARATORS = ";；，、\n"
FILE_ENDINGS = frozenset((
    ".txt", ".names", ".csv", ".tsv", ".json", ".jsonl", ".yaml", ".yml", ".xml", ".md", ".lst", ".list", ".data",
    ".jpg", ".jpeg", ".png",
))  # fmt: skip
"""Extensions of files that are given by mistake instead of class names."""
_OTHER_FORMATS = (".json", ".jsonl", ".csv", ".tsv", ".yaml", ".yml", ".xml")


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of classes, each with one or more names.

    Names belong to the data, prompt templates to the method (the text encoder holds them).

    Raises:
        ValueError: an empty list, an empty name, control characters, a name given twice (compared by `same_name_key`,
            since CLIP's tokenizer ignores the same differences), or a `seen` of the wrong length. The message states
            the index and the fix.
    """

    synonyms: tuple[tuple[str, ...], ...]
    """Names of each class; the first is displayed."""
    seen: tuple[bool, ...] | None = None
    """(K,) whether a class had labels in training; None if there is no such split."""
    background: int | None = None
    """Index of the class that means "everything else"; excluded from the averages over seen and unseen classes."""
    synonym_merge: SynonymMerge = "mean"
    """How the names of a class are merged: by averaging their embeddings, or by the best-matching name."""
    repeated_names: tuple[str, ...] = ()
    """Names that several classes may share, such as "screen" in LSeg's list of ADE20K: the logits of these classes are
    equal, and the first class gets the pixels."""

    def __post_init__(self) -> None:
        if not self.synonyms:
            raise ValueError("a vocabulary needs at least one class name, got an empty list")
        owner: dict[str, int] = {}
        repeated = set(map(same_name_key, self.repeated_names))
        for index, names in enumerate(self.synonyms):
            if not names:
                raise ValueError(f"class {index} has no name")
            for name in names:
                _check_name(name, index)
                key = same_name_key(name)
                if key in owner and (key not in repeated or owner[key] == index):
                    raise ValueError(
                        f"name {name!r} is given twice (case and white space are ignored): class {owner[key]} and "
                        f"class {index}; remove one, make them synonyms of one class, or list it in repeated_names"
                    )
                owner[key] = index
        if self.seen is not None and len(self.seen) != len(self):
            raise ValueError(f"seen flags: expected {len(self)}, one per class, got {len(self.seen)}")
        if self.background is not None and not 0 <= self.background < len(self):
            raise ValueError(f"background: expected a class index below {len(self)}, got {self.background}")
        check_choice("synonym_merge", self.synonym_merge, get_args(SynonymMerge))

    @classmethod
    def from_names(
        cls,
        names: Iterable[str | Sequence[str]],
        *,
        unseen: Iterable[str] | None = None,
        background: str | None = None,
        synonym_merge: SynonymMerge = "mean",
        repeated_names: Sequence[str] = (),
        group: str = "",
    ) -> "Vocabulary":
        """Build a vocabulary from names; an entry may be one name or a list of synonyms.

        Underscores always become spaces (`spaced`), so that the same classes give the same texts.

        Args:
            names: one entry per class, in label order.
            unseen: names of the classes without training labels, each the first name of a class; None sets no flags.
                Case, underscores, white space and the encoding of accents are ignored (`same_name_key`), here as in
                the other arguments.
            background: name of the class that means "everything else".
            synonym_merge: see the class.
            repeated_names: names that several classes may share.
            group: of arguments that `unseen` and `background` are part of, for messages.

        Raises:
            ValueError: see the class; also names copied from a list in another program's format (`foreign_form`:
                numbered, in quotes, a WordNet id), and an `unseen` or `background` name that is not among them.
        """
        if isinstance(names, str):
            raise ValueError(f"expected a list of class names, got one string {names!r}; split it at the commas")
        for argument, several in (("unseen", unseen), ("repeated_names", repeated_names)):
            if isinstance(several, str):
                raise ValueError(f"{argument}: expected a list of class names, got one string {several!r}")
        synonyms = tuple(_as_synonyms(entry, index) for index, entry in enumerate(names))
        _check_forms(synonyms)
        # an entry whose first name is not a string is rejected below
        keys = [same_name_key(entry[0]) for entry in synonyms if entry and isinstance(entry[0], str)]
        known, prefix = set(keys), f"{group}." if group else ""
        unseen_keys = None if unseen is None else {_key_among(known, name, f"{prefix}unseen") for name in unseen}
        seen = None if unseen_keys is None else tuple(key not in unseen_keys for key in keys)
        index = None if background is None else keys.index(_key_among(known, background, f"{prefix}background"))
        return cls(synonyms, seen, index, synonym_merge, tuple(repeated_names))

    @classmethod
    def from_text(cls, text: str) -> "Vocabulary":
        """Build a vocabulary from typed text, `"cat, sofa, floor"`; `|` separates synonyms: `"cat | kitten, sofa"`.

        Raises:
            ValueError: an empty name, a separator other than these two, or the name of a file; the message states the
                index.
        """
        entries = [[name.strip() for name in entry.split("|")] for entry in text.split(",")]
        for index, names in enumerate(entries):
            for name in names:
                _check_typed(name, index)
        return cls.from_names(entries)

    def __len__(self) -> int:
        return len(self.synonyms)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """(K,) the first name of each class."""
        return tuple(names[0] for names in self.synonyms)

    @cached_property
    def class_of_key(self) -> dict[str, int]:
        """The class of each name and synonym, by its `same_name_key`."""
        return {same_name_key(name): index for index, names in enumerate(self.synonyms) for name in names}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of everything that changes the classifier or the protocol, hexadecimal."""
        content = [self.synonyms, self.seen, self.background, self.synonym_merge]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def with_background(self, name: str) -> "Vocabulary":
        """Return the same classes, of which the one of this name means "everything else".

        Raises:
            ValueError: it is not the first name of a class.
        """
        keys = [same_name_key(names[0]) for names in self.synonyms]
        return replace(self, background=keys.index(_key_among(set(keys), name, "background")))

    def subset(self, indices: Sequence[int]) -> "Vocabulary":
        """Return the classes at `indices`, in that order."""
        seen = None if self.seen is None else tuple(self.seen[i] for i in indices)
        background = indices.index(self.background) if self.background in indices else None
        synonyms = tuple(self.synonyms[i] for i in indices)
        return Vocabulary(synonyms, seen, background, self.synonym_merge, self.repeated_names)


def read_class_names(path: str | Path) -> list[list[str]]:
    """Read a names file: one class per line, `;` between synonyms, `#` starts a comment line.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8, an empty line between names, a control character or `|`, or a line in another program's
            format (`foreign_form`); the message states the line. Also no names at all, or the extension of another
            format.
    """
    if Path(path).suffix.lower() in _OTHER_FORMATS:
        raise ValueError(f"{path}: expected a text file of names, one class per line, got a {Path(path).suffix} file")
    text = read_text(path).rstrip()
    lines = text.split("\n") if text else []  # not splitlines: it also splits at characters within a name
    numbered = [(number, line) for number, line in enumerate(lines, start=1) if not line.startswith("#")]
    if form := foreign_form([line for _, line in numbered]):
        number, reason = numbered[form[0]][0], form[1]
        raise ValueError(f"{path}:{number}: {reason}; expected nothing but the name of a class on each line")
    entries = []
    for number, line in numbered:
        if "|" in line:
            raise ValueError(f"{path}:{number}: '|' in {line.strip()[:60]!r}; in a file ';' separates synonyms")
        names = [spaced(name.strip()) for name in line.split(";")]
        if not all(names):
            raise ValueError(f"{path}:{number}: empty class name")
        for name in names:
            if problem := _problem_of(name):
                raise ValueError(f"{path}:{number}: {problem}")
        entries.append(names)
    if not entries:
        raise ValueError(f"{path}: no class names; expected one class per line")
    return entries


def spaced(name: str) -> str:
    """Return a class name as CLIP reads it, with spaces instead of the underscores in files."""
    return " ".join(name.replace("_", " ").split()) if "_" in name else name


def same_name_key(name: str) -> str:
    """Return a key of a name that ignores case, white space, underscores and the encoding of accents."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())


def some_names(names: Sequence[str], limit: int = 8) -> str:
    """List names for a message: the first few, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def has_visible_character(text: str) -> bool:
    """Return whether a text has more than white space and zero-width characters."""
    return any(not char.isspace() and unicodedata.category(char) not in _INVISIBLE for char in text)


def _key_among(keys: set[str], name: str, argument: str) -> str:
    """Return the key of a name, which must be among `keys`.

    Raises:
        ValueError: it is not; the message names the argument.
    """
    if not isinstance(name, str) or same_name_key(name) not in keys:
        raise ValueError(f"{argument}: {name!r} is not among the {len(keys)} class names")
    return same_name_key(name)


def _as_synonyms(entry: str | Sequence[str], index: int) -> tuple[str, ...]:
    if isinstance(entry, str):
        return (spaced(entry),)
    if isinstance(entry, Sequence):
        return tuple(spaced(name) if isinstance(name, str) else name for name in entry)
    raise ValueError(f"class {index}: expected a name or a list of names, got {type(entry).__name__}")


def _check_forms(synonyms: Sequence[tuple[str, ...]]) -> None:
    """Reject names in another program's format; `_check_name` rejects entries that are not strings."""
    texts = [[name if isinstance(name, str) else "" for name in entry] for entry in synonyms]
    of_first_names = foreign_form([entry[0] if entry else "" for entry in texts])
    of_synonyms = (
        (index, form[1]) for index, entry in enumerate(texts) for name in entry[1:] if (form := foreign_form([name]))
    )
    if problem := of_first_names or next(of_synonyms, None):
        raise ValueError(f"class {problem[0]}: {problem[1]}; expected nothing but the name of a class")


def _check_name(name: str, index: int) -> None:
    if not isinstance(name, str):
        raise ValueError(f"class {index}: expected a string, got {type(name).__name__}")
    if problem := _problem_of(name):
        raise ValueError(f"class {index}: {problem}")


def _check_typed(name: str, index: int) -> None:
    """Reject typing mistakes.

    Raises:
        ValueError: a separator other than a comma, or the name of a file.
    """
    other = next((mark for mark in _OTHER_SEPARATORS if mark in name), None)
    if other:
        raise ValueError(f"class {index}: {other!r} in {name[:60]!r}; commas separate classes, '|' synonyms")
    if PurePath(name).suffix.lower() in FILE_ENDINGS:
        raise ValueError(f"class {index}: {name[-60:]!r} looks like the name of a file, not of a class")


def _problem_of(name: str) -> str:
    """Return why a text is not a class name, "" if it is one."""
    if not has_visible_character(name):
        return f"the name is empty or only white space ({name!r})"
    categories = {unicodedata.category(character) for character in name}
    if categories & {"Cc", "Cs"}:  # control characters, and lone surrogates, which cannot be encoded
        return f"the name {name!r} contains a control character; remove it"
    return ""
