"""Find the files of a folder that are samples: one rule for all datasets."""

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
"""Extensions of the formats that `read_image` decodes; of several frames, it decodes the first."""
UNREAD_EXTENSIONS = frozenset((
    ".heic", ".heif", ".jxl", ".jpx", ".jxr", ".ico", ".tga", ".pcx", ".psd", ".svg", ".eps", ".exr", ".hdr", ".dds",
    ".pam", ".qoi", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".raw", ".dcm", ".nii",
))  # fmt: skip
"""Extensions of image formats that it does not decode."""


def check_folder(path: Path, argument: str) -> Path:
    """Return `path`.

    Raises:
        FileNotFoundError: it is not a folder; names the argument that gave it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{argument}: no folder {path}; prepare the dataset or point {argument} to it")
    return path


def is_image(path: Path) -> bool:
    """Return whether a file is an image, by its extension."""
    return path.suffix.lower() in IMAGE_EXTENSIONS


def is_unread(path: Path) -> bool:
    """Return whether a file is an image of a format that is not decoded, by its extension."""
    return path.suffix.lower() in UNREAD_EXTENSIONS


def visible_entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the folders in a folder, each sorted by name.

    Names that begin with a dot are skipped: other programs leave such files (`._x.png`, `.ipynb_checkpoints`). A link
    counts as its target, a broken one as a file.

    Raises:
        OSError: no folder, or one without read permission.
    """
    files: list[Path] = []
    folders: list[Path] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                is_folder = os.path.isdir(entry) if entry.is_symlink() else entry.is_dir()
                (folders if is_folder else files).append(folder / entry.name)
    return sorted(files), sorted(folders)


def walk_files(folder: Path) -> Iterator[Path]:
    """Yield all files below a folder, sorted, by the rule of `visible_entries`.

    Linked folders are searched too. A link to a folder that contains it is skipped: it would be followed forever.

    Raises:
        OSError: a folder without read permission.
    """
    yield from _walk(folder, tuple(map(_identity, folder.resolve().parents)))


def list_images(folder: Path, unread: list[Path] | None = None) -> list[Path]:
    """Return the images below a folder, sorted.

    Args:
        folder: searched recursively.
        unread: collects the images whose format is not decoded, for one warning about several folders; None warns here.

    Raises:
        OSError: a folder without read permission.
    """
    images: list[Path] = []
    others: list[Path] = [] if unread is None else unread
    for path in walk_files(folder):
        if is_image(path):
            images.append(path)
        elif is_unread(path):
            others.append(path)
    if unread is None:
        warn_of_unread(others)
    return images


def files_by_key(folder: Path, suffix: str = "", extensions: Collection[str] | None = None) -> dict[str, Path]:
    """Return the files below `folder` by key: the relative path without `suffix` and extension, accents composed.

    Args:
        folder: searched recursively.
        suffix: files whose stem does not end in it are skipped.
        extensions: of the files to return, in lower case. None returns images; a warning counts those whose format is
            not decoded.

    Raises:
        OSError: a folder without read permission.
        ValueError: two files with the same key.
    """
    by_key: dict[str, Path] = {}
    files = [path for path in walk_files(folder) if path.stem.endswith(suffix)]
    if extensions is None:
        warn_of_unread(list(filter(is_unread, files)))
    for path in files:
        if path.suffix.lower() not in (extensions or IMAGE_EXTENSIONS):
            continue
        key = normal_key(path.relative_to(folder).parent / path.stem.removesuffix(suffix))
        if key in by_key:
            raise ValueError(f"{by_key[key]} and {path} would be one sample, {key!r}: their names differ only in "
                             "the extension or the encoding of an accent; remove one")  # fmt: skip
        by_key[key] = path
    return by_key


def normal_key(path: str | os.PathLike) -> str:
    """Return the normal form of a relative path: `/` between its parts, no `./`, accents composed (Unicode NFC)."""
    return unicodedata.normalize("NFC", Path(path).as_posix())


def stored_names(folder: Path, names: Iterable[str]) -> list[str]:
    """Return relative paths of files below `folder` with accents encoded as on the disk.

    Lists mostly compose accents, and a disk that macOS wrote decomposes them. A name without a file is unchanged.
    """
    spellings: dict[Path, dict[str, str]] = {}
    return [name if name.isascii() else _stored_name(folder, name, spellings) for name in names]


def _stored_name(folder: Path, name: str, spellings: dict[Path, dict[str, str]]) -> str:
    """Return one name; `spellings` caches the names in each folder by `normal_key`."""
    if (folder / name).exists():
        return name
    stored = Path()
    for part in Path(name).parts:
        parent = folder / stored
        if not (parent / part).exists():
            if parent not in spellings:
                names = os.listdir(parent) if parent.is_dir() else []
                spellings[parent] = {normal_key(spelling): spelling for spelling in names}
            part = spellings[parent].get(normal_key(part), part)
        stored /= part
    return stored.as_posix()


def warn_of_unread(unread: Sequence[Path]) -> None:
    """Log how many images of which formats are skipped, if any."""
    if unread:
        counts = Counter(path.suffix.lower() for path in unread)
        formats = ", ".join(f"{count} {extension}" for extension, count in sorted(counts.items()))
        logger.warning(
            f"images of formats that are not read are skipped: {formats}; the first is {unread[0]}; convert them to "
            "PNG or JPEG"
        )


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[Path]:
    """Yield the files below a folder; `above` holds the `_identity` of all folders that contain it."""
    own = _identity(folder)
    if own in above:
        return
    files, folders = visible_entries(folder)
    inner = set(folders)
    for entry in sorted([*files, *folders]):
        if entry in inner:
            yield from _walk(entry, (*above, own))
        else:
            yield entry


def _identity(folder: Path) -> tuple[int, int]:
    """Return device and inode: equal for one folder, whatever links lead to it."""
    status = os.stat(folder)
    return status.st_dev, status.st_ino
