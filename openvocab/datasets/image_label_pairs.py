"""Which label map belongs to which image: matched by relative path, without suffix and extension."""

from collections.abc import Iterable
from pathlib import Path

from openvocab.text_files import read_text

IMAGE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"))


def check_folder(path: Path, argument: str) -> Path:
    """Return `path`.

    Raises:
        FileNotFoundError: it is not a folder; names the argument that gave it.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{argument}: no folder {path}; prepare the data set or point {argument} to it")
    return path


def files_by_key(folder: Path, suffix: str = "") -> dict[str, Path]:
    """Return the images below `folder` by key: their path in it, without `suffix` and extension.

    Files whose stem does not end in `suffix` are left out.

    Raises:
        ValueError: two files with the same key.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_EXTENSIONS or not path.stem.endswith(suffix):
            continue
        stem = path.stem.removesuffix(suffix)
        key = path.relative_to(folder).with_name(stem).as_posix()
        if key in found:
            raise ValueError(f"{path} and {found[key]} differ in their extension only; remove one")
        found[key] = path
    return found


def read_keys(path: Path) -> list[str]:
    """Read a list of keys, one a line (the first word counts: VOC's class lists carry a flag after it).

    Raises:
        FileNotFoundError: no such file.
        ValueError: not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"keys: no file {path}")
    return [line.split()[0] for line in read_text(path).splitlines() if line.strip()]


def select(found: dict[str, Path], keys: Iterable[str] | None, folder: Path) -> dict[str, Path]:
    """Keep the listed `keys`, all where None.

    Raises:
        FileNotFoundError: a listed key has no file.
    """
    if keys is None:
        return found
    missing = [key for key in keys if key not in found]
    if missing:
        raise FileNotFoundError(f"{len(missing)} listed samples have no file in {folder}, the first is {missing[0]!r}")
    return {key: found[key] for key in keys}


def pair(images: dict[str, Path], labels: dict[str, Path], require_annotations: bool) -> list[tuple[str, Path, Path]]:
    """Return (key, image, label map) of every image that has one, in the order of the keys.

    Raises:
        FileNotFoundError: a label map without an image; with `require_annotations`, an image without a label map.
    """
    lonely = sorted(set(labels) - set(images))
    if lonely:
        raise FileNotFoundError(f"{len(lonely)} label maps have no image, the first is {labels[lonely[0]]}")
    bare = [key for key in images if key not in labels]
    if bare and require_annotations:
        raise FileNotFoundError(
            f"{len(bare)} of {len(images)} images have no label map, the first is {images[bare[0]]}; "
            "require_annotations=False leaves them out"
        )
    return [(key, images[key], labels[key]) for key in images if key in labels]
