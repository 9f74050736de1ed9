"""Which samples there are: an image and the label map of the same key, or those that a file of keys lists."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from openvocab.datasets.files.folder_walk import normal_key
from openvocab.files.text_files import read_text

_VOC_LINE = re.compile(r"(\S+)\s+(?:-1|0|1)")
Lines = list[tuple[int, str]]
"""Numbers, from 1, and texts of the lines that are not blank."""


def pair(
    images: dict[str, Path], labels: dict[str, Path], advice: str, require_annotations: bool = True
) -> list[tuple[str, Path, Path]]:
    """Return (key, image, label map) of every image that has one, in the order of the images.

    Args:
        images, labels: files by key.
        advice: what would bring the two together, for messages.
        require_annotations: refuse images without a label map, instead of leaving them out.

    Raises:
        FileNotFoundError: a label map without an image; with `require_annotations`, an image without a label map.
    """
    unmatched = sorted(set(labels) - set(images))
    if unmatched:
        raise FileNotFoundError(
            f"{len(unmatched)} label maps have no image, the first is {labels[unmatched[0]]}; {advice}"
        )
    bare = [key for key in images if key not in labels]
    if bare and require_annotations:
        raise FileNotFoundError(
            f"{len(bare)} of {len(images)} images have no label map, the first is {images[bare[0]]}; {advice}"
        )
    return [(key, images[key], labels[key]) for key in images if key in labels]


def read_keys(path: Path, argument: str = "keys") -> list[str]:
    """Return the entries of a list, one a line; white space around an entry does not count, but within it does.

    Raises:
        FileNotFoundError: no such file; names the argument that gave it.
        ValueError: not UTF-8, or no entries.
    """
    return [line for _, line in _read_lines(path, argument)]


def find_listed(
    file: Path, keys: Sequence[str], shown: Sequence[str | Path], source: str, ids: Sequence[str] = ()
) -> list[int]:
    """Return the positions of the samples that a file lists, in its order.

    A line is a key, whole, with whatever blanks are in it, or the key's last part where a single sample has it. Where
    that does not find all lines, the list is read in other ways, each for all lines or none: in VOC's form, whose
    lines end in a flag -1, 0 or 1 (names there hold no blanks) and are no names as they are, and as `ids`.

    Args:
        file: one sample a line.
        keys: of all samples: path without extension, with `/` between its parts.
        shown: the file of each sample, for messages.
        source: where the samples come from, for messages.
        ids: of all samples.

    Raises:
        FileNotFoundError: no such file, or a listed sample that is not among the keys.
        ValueError: not UTF-8, an empty list, a line that fits two samples, a sample that is listed twice, a list that
            fits names and ids, of other samples.
    """
    lines = _read_lines(file, "keys")
    by_name = _places_of_names(keys)
    found = [[by_name.get(normal_key(line), []) for _, line in lines]]
    flagged = [_VOC_LINE.fullmatch(line) for _, line in lines]
    if all(flagged) and not any(found[0]):
        found.append([by_name.get(normal_key(match[1]), []) for match in flagged])
    if ids:
        by_id = {image_id: [place] for place, image_id in enumerate(ids)}
        found.append([by_id.get(line, []) for _, line in lines])
    _check_one_reading(file, lines, [reading for reading in found if all(reading)], shown)
    places = max(found, key=lambda reading: sum(map(bool, reading)))
    _check_missing(file, lines, places, source)
    _check_ambiguous(file, lines, places, shown)
    return _check_repeated(file, lines, [place for (place,) in places])


def select_listed(found: dict[str, Path], file: Path | None, folder: Path) -> dict[str, Path]:
    """Keep the files (by key) that `file` lists, in its order; all where None. See `find_listed`."""
    if file is None:
        return found
    keys = list(found)
    return {keys[place]: found[keys[place]] for place in find_listed(file, keys, list(found.values()), str(folder))}


def _read_lines(path: Path, argument: str) -> Lines:
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: no file {path}")
    # not splitlines: it also splits at characters that may stand inside a name
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ValueError(f"{argument}: {path} is empty; expected one entry a line")
    return lines


def _places_of_names(keys: Sequence[str]) -> dict[str, list[int]]:
    """Return the samples of each name. Where a whole key is another one's last part, the name means the whole key."""
    whole: dict[str, list[int]] = {}
    last: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        whole.setdefault(key, []).append(place)
        last.setdefault(PurePosixPath(key).name, []).append(place)
    return last | whole


def _check_missing(file: Path, lines: Lines, places: list[list[int]], source: str) -> None:
    missing = [line for line, found in zip(lines, places) if not found]
    if missing:
        number, line = missing[0]
        raise FileNotFoundError(
            f"keys: {len(missing)} of the {len(lines)} samples that {file} lists are not in {source}, the first is "
            f"{line!r} (line {number}); a line is the path of a sample's file without extension, or its name alone"
        )


def _check_one_reading(file: Path, lines: Lines, complete: list[list[list[int]]], shown: Sequence[str | Path]) -> None:
    """Check that the ways of reading a list in which all its lines are samples find the same ones, in any order."""
    if len({frozenset(place[0] for place in places) for places in complete}) < 2:
        return
    number, line, places = next(
        (number, line, places) for (number, line), *places in zip(lines, *complete) if places[0] != places[1]
    )
    names = " or ".join(str(shown[place[0]]) for place in places)
    raise ValueError(
        f"keys: {file}:{number}: {line!r} may be {names}, by its name or by its id in the annotation file; all lines "
        "fit both, rename the images or change the ids so that they fit one"
    )


def _check_ambiguous(file: Path, lines: Lines, places: list[list[int]], shown: Sequence[str | Path]) -> None:
    for (number, line), found in zip(lines, places):
        if len(found) > 1:
            raise ValueError(
                f"keys: {file}:{number}: {line!r} may be {shown[found[0]]} or {shown[found[1]]}; give the path in the "
                "folder, without extension"
            )


def _check_repeated(file: Path, lines: Lines, places: list[int]) -> list[int]:
    first: dict[int, int] = {}
    for (number, line), place in zip(lines, places):
        if place in first:
            raise ValueError(f"keys: {file}:{number}: {line!r} was listed in line {first[place]} already; remove one")
        first[place] = number
    return places
