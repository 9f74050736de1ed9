"""Import Python modules from the folder of a config, without changing the search path permanently."""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.config.lazy import LazyAttr, LazyObject


@contextmanager
def sibling_modules(config_file: Path) -> Iterator[None]:
    """Make the modules in the folder of a config importable in the block; installed ones take precedence."""
    folder = str(config_file.resolve().parent)
    if folder in sys.path:
        yield
        return
    sys.path.append(folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def keep_sibling_modules(config_file: Path) -> None:
    """Make the modules in the folder of a config importable from now on, in spawned processes too."""
    folder = str(config_file.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)


def import_sibling_modules(config: Config, config_file: Path) -> None:
    """Import the modules in the folder of a config that its parts need; mmengine would only at first use."""
    folder = config_file.resolve().parent
    for part in _named_parts(config._to_lazy_dict()):  # the dict in which classes are still names
        module = part.rpartition(".")[0] if isinstance(part, str) else part.module
        root = module.split(".")[0]
        if not root or root in sys.modules or not _provides(folder, root):
            continue
        importlib.import_module(module) if isinstance(part, str) else part.build()


def _named_parts(node: Any) -> Iterator[str | LazyObject | LazyAttr]:
    """Yield the classes that the config imports lazily, and the `type` of every part that is a name."""
    if isinstance(node, (LazyObject, LazyAttr)):
        yield node
    elif isinstance(node, Mapping):
        if isinstance(node.get("type"), str):
            yield node["type"]
        for value in node.values():
            yield from _named_parts(value)
    elif isinstance(node, (list, tuple)):
        for value in node:
            yield from _named_parts(value)


def _provides(folder: Path, module: str) -> bool:
    return (folder / f"{module}.py").is_file() or (folder / module).is_dir()
