"""Store a config in a checkpoint as data, which is compared and built from, but never run.

A config from a file is not trusted. Its `type`s are names, which are looked up among the classes that are registered
for that kind of part, and never imported: a registry of mmengine would import any module that a dotted name or a
`_scope_` requests, and call whatever it finds there.
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
    class_named,
    registered_only,
)

_MODEL_PARTS = (MODELS, BACKBONES, READOUTS, TEXT_ENCODERS, HEADS, CONTRASTIVE_TERMS, INFERENCERS)
_GEOMETRY = "mmcv.transforms.processing"
"""The module of mmcv whose transforms only compute, except for those that take a type as text."""
_MORE_THAN_PIXELS = ("openvocab.teacher.region_transforms", "openvocab.datasets.transforms.noun_prompts")
"""Modules of this package with transforms that build models, or read files when they are built."""
_FETCHES = "openvocab.backbones.conse"
"""The module of a backbone that reads or downloads weights which no checkpoint holds."""
_OF_ONE_RUN = {"work_dir", "experiment_name", "resume", "load_from", "launcher", "log_level"}
_NOT_DATA = "not data: "
_GIVE_IT = "give the config itself: load(config=...) or --config (`openvocab predict`: --model)"
_ABSENT = object()
_MAX_NODES, _MAX_DEPTH = 100_000, 60


def config_to_data(config: Config) -> dict[str, Any]:
    """Return a config as dicts, lists, tuples, numbers, strings and None.

    A class becomes "module.Class". Anything else becomes a string that describes it, from which nothing can be built.
    """
    return {str(key): _to_data(value) for key, value in config.items()}


def config_of(content: Any, source: str) -> Config:
    """Return the parts of the config in a checkpoint from which a model is built: `model` and the test pipeline.

    Every `type` in it is a class of openvocab, of mmcv's geometric transforms, or one that the caller's own imports
    have registered. Nothing is imported or built here.

    Args:
        content: content of the checkpoint.
        source: its name, for messages.

    Raises:
        ConfigError: there is no config, or it names another class.
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
    """Build in the block what `config_of` returned; only registered names are found.

    Raises:
        ConfigError: a part does not take the arguments in the file, or their values.
    """
    try:
        with registered_only():
            yield
    except ConfigError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError, AssertionError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{source}: no model can be built from its config: {type(error).__name__}: {reason}"
        ) from error


def config_changes(saved: Any, present: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return {dotted key: (then, now)} of the settings that differ, except for those of a single run.

    Args:
        saved: the config in a checkpoint; the text in an older file cannot be compared and gives no differences.
        present: the present config, from `config_to_data`.

    Raises:
        ConfigError: `saved` is larger than any config.
    """
    if not isinstance(saved, Mapping):
        return {}
    _check_size(saved, "the checkpoint")
    keys = [key for key in SETTINGS if key not in _OF_ONE_RUN]
    then, now = ({key: config[key] for key in keys if key in config} for config in (saved, present))
    return {key: (old, new) for key, old, new in _differences(then, now, "")}


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


def class_path(part_class: type) -> str:
    """Return "module.Class"."""
    return f"{part_class.__module__}.{part_class.__qualname__}"


def _known(*registries: Registry) -> dict[str, type]:
    """Return the registered classes by their names and by their paths."""
    known: dict[str, type] = {}
    for registry in registries:
        registry.import_from_location()
        for name, part in registry.module_dict.items():
            if inspect.isclass(part):
                known |= {name: part, f"{SCOPE}.{name}": part, class_path(part): part}
    return {name: part for name, part in known.items() if part.__module__ != _FETCHES}


def _known_geometry() -> dict[str, type]:
    """Return our transforms, and those of mmcv that only compute, by their names and paths."""
    of_mmcv = {
        name: step
        for name, step in MMENGINE_TRANSFORMS.module_dict.items()
        if step.__module__ == _GEOMETRY and not _takes_type_as_text(step)
    }
    known = {**of_mmcv, **{class_path(step): step for step in of_mmcv.values()}, **_known(TRANSFORMS)}
    return {name: step for name, step in known.items() if step.__module__ not in _MORE_THAN_PIXELS}


def _takes_type_as_text(step: type) -> bool:
    """Return whether a transform of mmcv builds what an argument such as `resize_type` names, importing any module."""
    return any(name.endswith("_type") for name in inspect.signature(step).parameters)


def _check_size(data: Any, source: str) -> None:
    """Reject data that contains itself, or the same part so often that a walk over it would not end."""
    level, count = [data], 0
    for _ in range(_MAX_DEPTH):
        level = [
            item
            for node in level
            if isinstance(node, (Mapping, list, tuple))
            for item in (node.values() if isinstance(node, Mapping) else node)
        ]
        count += len(level)
        if not level:
            return
        if count > _MAX_NODES:
            break
    raise ConfigError(f"{source}: its config has more than {_MAX_NODES} entries or {_MAX_DEPTH} levels")


def _checked(node: Any, key: str, known: Mapping[str, type]) -> Any:
    """Return `node`, whose dotted key is `key`, with each `type` as its class.

    Without `_scope_`, for which mmengine imports a module, and without `cache_dir`, where a part would write.
    """
    if isinstance(node, Mapping):
        inner = {
            name: _checked(value, f"{key}.{name}", known)
            for name, value in node.items()
            if name not in ("type", "_scope_", "cache_dir")
        }
        return {"type": _class_of(node["type"], key, known), **inner} if "type" in node else inner
    if isinstance(node, (list, tuple)):
        return type(node)(_checked(value, f"{key}.{index}", known) for index, value in enumerate(node))
    if node is None or isinstance(node, (bool, int, float, str)) and not str(node).startswith(_NOT_DATA):
        return node
    raise ConfigError(f"{key}: {str(node)[:80]!r} cannot be taken from a checkpoint; {_GIVE_IT}")


def _class_of(name: Any, key: str, known: Mapping[str, type]) -> type:
    if isinstance(name, str):
        name = present_path(name)
        module, _, attribute = name.rpartition(".")
        # a dumped config may name a class by the package that exports it
        part = known.get(name) or vars(sys.modules.get(module, object)).get(attribute)
        if inspect.isclass(part) and part in known.values():
            return part
    raise ConfigError(
        f"{key}.type: {str(name)[:80]!r} is not registered for this kind of part, and a checkpoint imports nothing; "
        f"import its module first, or {_GIVE_IT}"
    )


def _with_present_arguments(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data of a part with its arguments under their present names, so that a mere renaming is no change."""
    name = part.get("type")
    return present_arguments(class_named(name) or name, part, warn=False) if isinstance(name, str) else part


def _differences(then: Any, now: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield (dotted key, then, now) of the values that differ below `key`."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        then, now = _with_present_arguments(then), _with_present_arguments(now)
        for name in [*then, *(name for name in now if name not in then)]:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(then.get(name, _ABSENT), now.get(name, _ABSENT), inner)
    elif isinstance(then, (list, tuple)) and isinstance(now, (list, tuple)) and len(then) == len(now):
        for index, pair in enumerate(zip(then, now)):
            yield from _differences(*pair, f"{key}.{index}")
    elif type(then) is not type(now) or (present_path(then) if isinstance(then, str) else then) != now:
        yield key, "absent" if then is _ABSENT else then, "absent" if now is _ABSENT else now
