"""Which files of a folder are samples: one rule for every reader of a dataset."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

IMAGE_EXTENSIONS = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".jp2", ".j2k", ".ppm",
    ".pgm", ".pbm", ".pnm",
))  # fmt: skip
"""Of the formats that `read_image` decodes; it takes the first of several frames."""
UNREAD_EXTENSIONS = frozenset((
    ".heic", ".heif", ".jxl", ".jpx", ".jxr", ".ico", ".tga", ".pcx", ".psd", ".svg", ".eps", ".exr", ".hdr", ".dds",
    ".pam", ".qoi", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw", ".dcm", ".nii",
))  # fmt: skip
"""Of pictures that it does not decode."""


def check_folder(path: Path, argument: str) -> Path:
    """Return `path`.

    Raises:
        FileNotFoundError: it is not a folder; names the argument that gave it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{argument}: no folder {path}; prepare the dataset or point {argument} to it")
    return path


def is_image(path: Path) -> bool:
    """Say whether a file is taken for an image, by its extension."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def is_unread(path: Path) -> bool:
    """Say whether a file is a picture of a format that is not read, by its extension."""
    return path.suffix.lower() in UNREAD_EXTENSIONS


def visible_entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders of a folder, each by name.

    Names that begin with a dot are passed over: what other programs leave behind (`._x.png`, `.ipynb_checkpoints`).
    A link counts as what it leads to, and one that leads nowhere as a file.

    Raises:
        OSError: no folder, or one that may not be read.
    """
    files, folders = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                is_folder = os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()
                (folders if is_folder else files).append(folder / entry.name)
    return sorted(files), sorted(folders)


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, sorted, by the rule of `visible_entries`.

    Linked folders are searched too. A link to a folder that it lies in is passed over: it would lead round for ever.

    Raises:
        OSError: a folder that may not be read.
    """
    yield from _walk(folder, tuple(map(_number, folder.resolve().parents)))


def list_images(folder: Path, unread: list[Path] | None = None) -> list[Path]:
    """Return the images below a folder, sorted.

    Args:
        unread: takes the pictures whose format is not read, for one warning about several folders; None warns of them
            here.

    Raises:
        OSError: a folder that may not be read.
    """
    images, others = [], [] if unread is None else unread
    for path in walk_files(folder):
        if is_image(path):
            images.append(path)
        elif is_unread(path):
            others.append(path)
    if unread is None:
        warn_of_unread(others)
    return images


def files_by_key(folder: Path, suffix: str = "", extensions: Collection[str] | None = None) -> dict[str, Path]:
    """Return the files below `folder` by key: their path in it, without `suffix` and extension, accents composed.

    Args:
        suffix: files whose stem does not end in it are left out.
        extensions: of the files that are looked for, in lower case. None looks for images; a warning counts the
            pictures whose format is not read.

    Raises:
        OSError: a folder that may not be read.
        ValueError: two files with the same key.
    """
    found: dict[str, Path] = {}
    files = [path for path in walk_files(folder) if path.stem.endswith(suffix)]
    if extensions is None:
        warn_of_unread(list(filter(is_unread, files)))
    for path in files:
        if path.suffix.lower() not in (extensions or IMAGE_EXTENSIONS):
            continue
        key = normal_key(path.relative_to(folder).parent / path.stem.removesuffix(suffix))
        if key in found:
            raise ValueError(f"{found[key]} and {path} would be one sample, {key!r}: their names differ in the "
                             "extension or the coding of an accent only; remove one")  # fmt: skip
        found[key] = path
    return found


def normal_key(path: str | os.PathLike) -> str:
    """Return one spelling of a relative path: `/` between its parts, no `./`, accents composed as most systems do."""
    return unicodedata.normalize("NFC", Path(path).as_posix())


def stored_names(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the names that a list has of files below `folder`, paths in it, with accents coded as on the disk.

    Lists mostly compose accents, and a disk that macOS wrote decomposes them. A name that is not there stays as it is.
    """
    spellings: dict[Path, dict[str, str]] = {}
    return [name if name.isascii() else _stored_name(folder, name, spellings) for name in names]


def _stored_name(folder: Path, name: str, spellings: dict[Path, dict[str, str]]) -> str:
    """Return one name; `spellings` keeps what is in each folder that was looked into, by `normal_key`."""
    if (folder / name).exists():
        return name
    found = Path()
    for part in Path(name).parts:
        parent = folder / found
        if not (parent / part).exists():
            if parent not in spellings:
                there = os.listdir(parent) if parent.is_dir() else []
                spellings[parent] = {normal_key(spelling): spelling for spelling in there}
            part = spellings[parent].get(normal_key(part), part)
        found /= part
    return found.as_posix()


def warn_of_unread(unread: Sequence[Path]) -> None:
    """Log how many pictures are passed over and which kinds, if there are any."""
    if unread:
        counts = Counter(path.suffix.lower() for path in unread)
        kinds = ", ".join(f"{count} {extension}" for extension, count in sorted(counts.items()))
        logger.warning(
            f"{len(unread)} pictures are passed over, since their formats are not read ({kinds}), the first is "
            f"{unread[0]}; convert them to PNG or JPEG"
        )


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files below a folder whose own and whose parents' numbers on the disk are `above`."""
    own = _number(folder)
    if own in above:
        return
    files, folders = visible_entries(folder)
    inner = set(folders)
    for entry in sorted([*files, *folders]):
        if entry in inner:
            yield from _walk(entry, (*above, own))
        else:
            yield entry


def _number(folder: Path) -> tuple[int, int]:
    """Return what tells a folder from all others, by whichever links it was reached."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino
