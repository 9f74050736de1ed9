"""Find the samples of a dataset: pairs of an image and a label map with the same key, or those that a file lists."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from openvocab.datasets.files.folder_walk import normal_key
from openvocab.files.text_files import read_text

_VOC_LINE = re.compile(r"(\S+)\s+(?:-1|0|1)")
Lines = list[tuple[int, str]]
"""(number from 1, text) of the lines that are not blank."""


def pair(
    images: dict[str, Path], labels: dict[str, Path], advice: str, require_annotations: bool = True
) -> list[tuple[str, Path, Path]]:
    """Return (key, image, label map) of every image that has one, in the order of the images.

    Args:
        images, labels: files by key.
        advice: how to make images and label maps match, for messages.
        require_annotations: reject images without a label map instead of skipping them.

    Raises:
        FileNotFoundError: a label map without an image; with `require_annotations`, an image without a label map.
    """
    unmatched = sorted(set(labels) - set(images))
    if unmatched:
        raise FileNotFoundError(
            f"{len(unmatched)} label maps have no image; the first is {labels[unmatched[0]]}; {advice}"
        )
    unlabeled = [key for key in images if key not in labels]
    if unlabeled and require_annotations:
        raise FileNotFoundError(
            f"{len(unlabeled)} of {len(images)} images have no label map; the first is {images[unlabeled[0]]}; {advice}"
        )
    return [(key, images[key], labels[key]) for key in images if key in labels]


def read_keys(path: Path, argument: str = "keys") -> list[str]:
    """Return the entries of a list, one per line, without the white space around each.

    Raises:
        FileNotFoundError: no such file; the message names the argument that it came from.
        ValueError: not UTF-8, or no entries.
    """
    return [line for _, line in _read_lines(path, argument)]


def find_listed(
    file: Path, keys: Sequence[str], paths: Sequence[str | Path], source: str, ids: Sequence[str] = ()
) -> list[int]:
    """Return the indices of the samples that a file lists, in its order.

    A line is a complete key, which may contain blanks, or the last part of a key if only one sample has it. If some
    lines are neither, other readings are tried, each for all lines or none: VOC's format, whose lines are a name
    without blanks and a flag -1, 0 or 1, and `ids`.

    Args:
        file: one sample per line.
        keys: keys of all samples: path without extension, with `/` between its parts.
        paths: the file of each sample, for messages.
        source: where the samples come from, for messages.
        ids: ids of all samples.

    Raises:
        FileNotFoundError: no such file, or a listed sample that is not among the keys.
        ValueError: not UTF-8, an empty list, a line that matches two samples, a sample that is listed twice, or a list
            that can be read as names and as ids of different samples.
    """
    lines = _read_lines(file, "keys")
    by_name = _indices_of_names(keys)
    readings = [[by_name.get(normal_key(line), []) for _, line in lines]]
    flagged = [match for _, line in lines if (match := _VOC_LINE.fullmatch(line)) is not None]
    if len(flagged) == len(lines) and not any(readings[0]):
        readings.append([by_name.get(normal_key(match[1]), []) for match in flagged])
    if ids:
        by_id = {image_id: [index] for index, image_id in enumerate(ids)}
        readings.append([by_id.get(line, []) for _, line in lines])
    _check_one_reading(file, lines, [reading for reading in readings if all(reading)], paths)
    matches = max(readings, key=lambda reading: sum(map(bool, reading)))
    _check_missing(file, lines, matches, source)
    _check_ambiguous(file, lines, matches, paths)
    return _check_repeated(file, lines, [index for (index,) in matches])


def select_listed(files: dict[str, Path], file: Path | None, folder: Path) -> dict[str, Path]:
    """Return those of `files`, by key, that `file` lists, in its order; None returns all. See `find_listed`."""
    if file is None:
        return files
    keys = list(files)
    return {keys[index]: files[keys[index]] for index in find_listed(file, keys, list(files.values()), str(folder))}


def _read_lines(path: Path, argument: str) -> Lines:
    if not path.is_file():
        raise FileNotFoundError(f"{argument}: no file {path}")
    # not splitlines: it also splits at characters that may stand inside a name
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path).split("\n"), start=1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ValueError(f"{argument}: {path} is empty; expected one entry per line")
    return lines


def _indices_of_names(keys: Sequence[str]) -> dict[str, list[int]]:
    """Return the samples of each name: those whose key equals it or, if there are none, those whose key ends in it."""
    by_key: dict[str, list[int]] = {}
    by_last_part: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        by_key.setdefault(key, []).append(index)
        by_last_part.setdefault(PurePosixPath(key).name, []).append(index)
    return by_last_part | by_key


def _check_missing(file: Path, lines: Lines, matches: list[list[int]], source: str) -> None:
    missing = [line for line, indices in zip(lines, matches) if not indices]
    if missing:
        number, line = missing[0]
        raise FileNotFoundError(
            f"keys: {len(missing)} of the {len(lines)} samples that {file} lists are not in {source}; the first is "
            f"{line!r} (line {number}); a line is the path of a sample's file without extension, or its name alone"
        )


def _check_one_reading(file: Path, lines: Lines, complete: list[list[list[int]]], paths: Sequence[str | Path]) -> None:
    """Check that all readings in which every line is a sample find the same samples, in any order."""
    if len({frozenset(indices[0] for indices in matches) for matches in complete}) < 2:
        return
    number, line, matches = next(
        (number, line, matches) for (number, line), *matches in zip(lines, *complete) if matches[0] != matches[1]
    )
    names = " or ".join(str(paths[indices[0]]) for indices in matches)
    raise ValueError(
        f"keys: {file}:{number}: {line!r} may be {names}, by its name or by its id in the annotation file; all lines "
        "match both; rename the images or change the ids so that they match one"
    )


def _check_ambiguous(file: Path, lines: Lines, matches: list[list[int]], paths: Sequence[str | Path]) -> None:
    for (number, line), indices in zip(lines, matches):
        if len(indices) > 1:
            raise ValueError(
                f"keys: {file}:{number}: {line!r} may be {paths[indices[0]]} or {paths[indices[1]]}; give the path in "
                "the folder, without extension"
            )


def _check_repeated(file: Path, lines: Lines, indices: list[int]) -> list[int]:
    first: dict[int, int] = {}
    for (number, line), index in zip(lines, indices):
        if index in first:
            raise ValueError(f"keys: {file}:{number}: {line!r} was listed in line {first[index]} already; remove one")
        first[index] = number
    return indices
