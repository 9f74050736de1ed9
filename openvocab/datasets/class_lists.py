"""The class lists and splits that come with the package, by name; or a user's own file, by path."""

import json
from pathlib import Path
from typing import Any

CLASS_NAMES_FOLDER = Path(__file__).parent / "class_names"
SPLITS_FOLDER = Path(__file__).parent / "splits"


def class_names_path(name_or_path: str | Path) -> Path:
    """Return the names file of a known list (`ade20k_150`), or the user's own file; read it with `read_class_names`.

    Raises:
        ValueError: neither; the message lists the known names.
    """
    return _find(name_or_path, CLASS_NAMES_FOLDER, ".txt", "class list")


def load_split(name_or_path: str | Path) -> dict[str, Any]:
    """Return a known split (`coco_48_17`, `lvis_866_337`, `pascal5i`, `coco20i`) or the one in a JSON file.

    Returns:
        keys `base` and `novel` (lists of class names), or `classes` (name of the class list) and `folds` (class ids of
        each fold, counted from 0 without background); `source` says where the facts come from.

    Raises:
        ValueError: neither a known split nor a file, or a file that is not a JSON object.
    """
    path = _find(name_or_path, SPLITS_FOLDER, ".json", "split")
    try:
        split = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(split, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(split).__name__}")
    return split


def _find(name_or_path: str | Path, folder: Path, extension: str, kind: str) -> Path:
    known = folder / f"{name_or_path}{extension}"
    if known.parent == folder and known.is_file():
        return known
    own = Path(name_or_path).expanduser()
    if own.is_file():
        return own
    names = ", ".join(sorted(file.stem for file in folder.glob(f"*{extension}")))
    raise ValueError(f"no {kind} {str(name_or_path)!r} and no such file; known: {names}")
