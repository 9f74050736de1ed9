"""Configs by name: those of the repository's `configs/`, which the wheel contains, too."""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def configs_folder() -> Path:
    """Return the folder of the configs: within the package, as the wheel installs it, or next to it in a checkout."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parent / "configs"


def shipped_configs() -> list[str]:
    """Return the names of the configs, without ".py"."""
    return sorted(path.stem for path in configs_folder().glob("*.py"))


def config_file(config: str | os.PathLike[str], more_names: Iterable[str] = ()) -> Path:
    """Return the path of a config that is given by its path, or by the name of one that comes with the package.

    Args:
        config: "mine.py", "configs/lseg_ade.py" or "lseg_ade". A file in the working folder comes first.
        more_names: of models, which may have been meant, for the message.

    Raises:
        FileNotFoundError: there is neither such a file nor such a name; the nearest names are listed.
    """
    path = Path(config)
    if path.is_file():
        return path
    name = path.name.removesuffix(".py")
    shipped = configs_folder() / f"{name}.py"
    is_name = path.parent in (Path(), Path("configs"))
    if is_name and shipped.is_file():
        return shipped
    more_names = list(more_names)
    near = difflib.get_close_matches(name, [*shipped_configs(), *more_names], n=3) if is_name else []
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    what = "model or config" if more_names and is_name and path.suffix != ".py" else "config"
    raise FileNotFoundError(f"no such {what}: {config}{hint}")
