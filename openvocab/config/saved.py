"""A config as a checkpoint carries it: data that is compared and built from, never source that is run.

A config that comes out of a file is not trusted. Its `type`s are names, and a name is looked up among the classes that
are registered for its place, never imported: a registry of mmengine would import any module that a dotted name or a
`_scope_` asks for, and call whatever it finds there.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from openvocab.config.config import SETTINGS, ConfigError, test_pipeline
from openvocab.former_names import present_arguments, present_path
from openvocab.registry import (
    BACKBONES,
    CONTRASTIVE_TERMS,
    HEADS,
    INFERENCERS,
    MODELS,
    READOUTS,
    SCOPE,
    TEXT_ENCODERS,
    TRANSFORMS,
    registered_only,
)

_MODEL_PARTS = (MODELS, BACKBONES, READOUTS, TEXT_ENCODERS, HEADS, CONTRASTIVE_TERMS, INFERENCERS)
_GEOMETRY = "mmcv.transforms.processing"
"""The module of mmcv whose transforms compute and do nothing else, but for those that are given a type as text."""
_MORE_THAN_PIXELS = ("openvocab.teacher.region_transforms", "openvocab.datasets.transforms.noun_prompts")
"""Modules of ours with transforms that build whole models, or that read files when they are built."""
_FETCHES = "openvocab.backbones.conse"
"""The module of a backbone that reads or fetches weights which no checkpoint holds."""
_OF_ONE_RUN = {"work_dir", "experiment_name", "resume", "load_from", "launcher", "log_level"}
_NOT_DATA = "not data: "
_GIVE_IT = "give the config itself: load(config=...) or --config"
_ABSENT = object()
_MOST_NODES, _MOST_DEPTH = 100_000, 60


def config_to_data(config: Config) -> dict[str, Any]:
    """Return a config with dicts, lists, tuples, numbers, strings and None alone.

    A class becomes "module.Class". Anything else becomes a string that says what it was, from which nothing is built.
    """
    return {str(key): _to_data(value) for key, value in config.items()}


def config_of(content: Any, source: str) -> Config:
    """Return what a model is built from, out of the config in a checkpoint: `model`, and the test data's pipeline.

    Every `type` in it is a class of openvocab, mmcv's geometry, or one that the caller's own imports have registered.
    Nothing is imported or built here.

    Args:
        content: of the checkpoint.
        source: its name, for messages.

    Raises:
        ConfigError: there is no such config, or it names another class.
    """
    meta = content.get("meta") if isinstance(content, Mapping) else None
    saved = meta.get("config") if isinstance(meta, Mapping) else None
    if not isinstance(saved, Mapping) or not isinstance(saved.get("model"), Mapping):
        what = "its config as program text, which is not run" if isinstance(saved, str) else "no config of its model"
        raise ConfigError(f"{source} holds {what}; {_GIVE_IT}")
    steps = test_pipeline(saved, source)
    _check_size([saved["model"], steps], source)
    model = _checked(saved["model"], f"{source}: model", _known(*_MODEL_PARTS))
    pipeline = _checked(steps, f"{source}: test_dataloader.dataset.pipeline", _known_geometry())
    return Config({"model": model, "test_dataloader": {"dataset": {"pipeline": pipeline}}})


@contextmanager
def building_from_file(source: str) -> Iterator[None]:
    """Build within what `config_of` returned: parts find registered names only.

    Raises:
        ConfigError: a part takes other arguments than the file gives it.
    """
    try:
        with registered_only():
            yield
    except (TypeError, AttributeError, LookupError, AssertionError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{source}: a model cannot be built of its config: {type(error).__name__}: {reason}"
        ) from error


def config_changes(saved: Any, present: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (then, now)} of the settings that differ, except for where and when a run takes place.

    Args:
        saved: of a checkpoint; not data (an older file) has no differences that could be known.
        present: from `config_to_data`.

    Raises:
        ConfigError: `saved` is larger than any config.
    """
    if not isinstance(saved, Mapping):
        return {}
    _check_size(saved, "the checkpoint")
    keys = [key for key in SETTINGS if key not in _OF_ONE_RUN]
    then, now = ({key: config[key] for key in keys if key in config} for config in (saved, present))
    return {place: (old, new) for place, old, new in _differences(then, now, "")}


def _to_data(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {key if type(key) is int else str(key): _to_data(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [_to_data(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    if inspect.isclass(value):
        return class_path(value)
    return str(value) if isinstance(value, Path) else _NOT_DATA + " ".join(repr(value).split())[:200]


def class_path(kind: type) -> str:
    """Return "module.Class"."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _known(*registries: Registry) -> dict[str, type]:
    """Return the registered classes by their names and by their paths."""
    found: dict[str, type] = {}
    for registry in registries:
        registry.import_from_location()
        for name, kind in registry.module_dict.items():
            if inspect.isclass(kind):
                found |= {name: kind, f"{SCOPE}.{name}": kind, class_path(kind): kind}
    return {name: kind for name, kind in found.items() if kind.__module__ != _FETCHES}


def _known_geometry() -> dict[str, type]:
    """Return our transforms, and those of mmcv that only compute, by their names and paths."""
    theirs = {
        name: kind
        for name, kind in MMENGINE_TRANSFORMS.module_dict.items()
        if kind.__module__ == _GEOMETRY and not _takes_type_as_text(kind)
    }
    found = {**theirs, **{class_path(kind): kind for kind in theirs.values()}, **_known(TRANSFORMS)}
    return {name: kind for name, kind in found.items() if kind.__module__ not in _MORE_THAN_PIXELS}


def _takes_type_as_text(kind: type) -> bool:
    """Say whether a transform of mmcv builds what an argument such as `resize_type` names: it imports any module."""
    return any(name.endswith("_type") for name in inspect.signature(kind).parameters)


def _check_size(data: Any, source: str) -> None:
    """Refuse what refers to itself, or to the same part so often that a walk over it would not end."""
    level, count = [data], 0
    for _ in range(_MOST_DEPTH):
        level = [
            item
            for node in level
            if isinstance(node, (Mapping, list, tuple))
            for item in (node.values() if isinstance(node, Mapping) else node)
        ]
        count += len(level)
        if not level:
            return
        if count > _MOST_NODES:
            break
    raise ConfigError(f"{source}: its config has more than {_MOST_NODES} entries or {_MOST_DEPTH} levels")


def _checked(node: Any, place: str, known: Mapping[str, type]) -> Any:
    """Return `node` with each `type` as its class.

    `_scope_` is left out, for which mmengine imports a module, and `cache_dir`, where a part would write.
    """
    if isinstance(node, Mapping):
        inner = {
            key: _checked(value, f"{place}.{key}", known)
            for key, value in node.items()
            if key not in ("type", "_scope_", "cache_dir")
        }
        return {"type": _class_of(node["type"], place, known), **inner} if "type" in node else inner
    if isinstance(node, (list, tuple)):
        return type(node)(_checked(value, f"{place}.{index}", known) for index, value in enumerate(node))
    if node is None or isinstance(node, (bool, int, float, str)) and not str(node).startswith(_NOT_DATA):
        return node
    raise ConfigError(f"{place}: {str(node)[:80]!r} cannot be taken from a checkpoint; {_GIVE_IT}")


def _class_of(name: Any, place: str, known: Mapping[str, type]) -> type:
    if isinstance(name, str):
        name = present_path(name)
        module, _, attribute = name.rpartition(".")
        # a dumped config may name a class by the package that offers it
        kind = known.get(name) or vars(sys.modules.get(module, object)).get(attribute)
        if inspect.isclass(kind) and kind in known.values():
            return kind
    raise ConfigError(
        f"{place}.type: {str(name)[:80]!r} is not registered for this place, and a checkpoint imports nothing; import "
        f"its module first, or {_GIVE_IT}"
    )


def _differences(then: Any, now: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        if isinstance(kind := then.get("type"), str):
            then = present_arguments(present_path(kind), then, warn=False)
        for key in [*then, *(key for key in now if key not in then)]:
            inner = f"{place}.{key}" if place else str(key)
            yield from _differences(then.get(key, _ABSENT), now.get(key, _ABSENT), inner)
    elif isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)) and len(then) == len(now):
        for index, pair in enumerate(zip(then, now)):
            yield from _differences(*pair, f"{place}.{index}")
    elif type(then) is not type(now) or (present_path(then) if isinstance(then, str) else then) != now:
        yield place, *("absent" if value is _ABSENT else value for value in (then, now))
