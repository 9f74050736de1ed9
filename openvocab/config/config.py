"""Read configs; every error is one line."""

import difflib
import inspect
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from openvocab.config.imports import ONLY_NAMES, ImportMistake, check_imports
from openvocab.config.modules import import_sibling_modules, sibling_modules
from openvocab.config.shipped import config_file
from openvocab.former_names import (
    arguments_in_groups,
    former_arguments,
    move_former_arguments,
    present_arguments,
    present_option,
)
from openvocab.registry import class_named

_TRAINING = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
_TESTING = ("model", "test_dataloader", "test_cfg", "test_evaluator")
_CHECKED = (
    "model",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "val_evaluator",
    "test_evaluator",
    "train_cfg",
)
_OPTIONAL = (
    "work_dir", "val_dataloader", "val_cfg", "val_evaluator", "param_scheduler", "default_hooks", "custom_hooks",
    "load_from", "resume", "launcher", "env_cfg", "log_processor", "log_level", "visualizer", "default_scope",
    "randomness", "experiment_name", "auto_scale_lr", "find_unused_parameters", "sync_bn", "model_wrapper_cfg",
    "compile", "precision", "custom_imports", "early_stopping", "run_length",
)  # fmt: skip
SETTINGS = (*_TRAINING, *_TESTING, *_OPTIONAL, "teacher")
_MAX_NESTED_DATASETS = 20


class ConfigError(ValueError):
    """A config that cannot be read or is incomplete; the message names the file."""


def read_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a config file and override single values of it.

    The config can import modules in its folder, and those that it lists in `custom_imports` are imported, so that a
    user's parts are found by class and by registry name. The search path of the process is restored afterwards; a
    module that imports another one in that folder only when a function runs needs the folder in `sys.path`.

    Args:
        path: a Python config, or the name of one that comes with the package, "lseg_ade". It is a program: run only
            files that you trust.
        overrides: `{"train_cfg.max_iters": 100}`, from the command line.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: the file is not a Python config, has an invalid import, or raises an error; an override names a key
            that does not exist (the nearest is suggested), or a variable of the file, whose value is in its settings
            already; one override lies within another; or a module of `custom_imports` cannot be imported.
    """
    path = config_file(path)
    if Path(path).suffix != ".py":  # mmengine's reader of YAML builds any object that such a file names
        raise ConfigError(
            f"{path}: expected a Python config (.py), got {Path(path).suffix or 'a file without ending'!r}"
        )
    with sibling_modules(Path(path)):
        with _one_line(path):
            check_imports(Path(path))
            config = Config.fromfile(path)
            _move_former_arguments(config, former_arguments(), str(path))
            present = [(_present_option(config, key, value), value) for key, value in (overrides or {}).items()]
        _check_distinct([key for key, _ in present], path)
        for key, _ in present:
            _check_override(config, key, path)
        if present:
            with _one_line(path):
                config.merge_from_dict(dict(present))
                _move_former_arguments(config, former_arguments(), str(path))  # of overrides that are dicts
        _import_custom_modules(config, path)
        with _one_line(path):
            import_sibling_modules(config, Path(path))
    return config


def require_keys(config: Config, *, training: bool) -> None:
    """Check that a config has the keys that training or testing needs.

    Raises:
        ConfigError: a key is missing; the message names the file, the key and the nearest one in the config.
    """
    for key in _TRAINING if training else _TESTING:
        if config.get(key) is None:
            raise ConfigError(f"{config.filename or 'the config'}: no {key!r}{_nearest(key, config)}")


def check_arguments(config: Config) -> None:
    """Check the arguments of all classes in the model, the data, the metrics and the loop, before any is built.

    Raises:
        ConfigError: a class does not accept an argument; the message states its key and the most similar argument.
    """
    for name in _CHECKED:
        for key, part in typed_parts(config.get(name), name):
            _check_part(part, f"{config.filename or 'the config'}: {key}")


def check_teacher(config: Config) -> None:
    """Check that the training pipeline reads the regions of the config's `teacher`, of which it holds a copy.

    Raises:
        ConfigError: a step of the training pipeline has another teacher.
    """
    teacher = config.get("teacher")
    steps = config.get("train_dataloader", {}).get("dataset", {}).get("pipeline", [])
    for number, step in enumerate(steps):
        if teacher is not None and step.get("teacher", teacher) != teacher:
            key = f"train_dataloader.dataset.pipeline.{number}.teacher"
            raise ConfigError(f"{config.filename}: teacher and {key} differ; change both, and build the cache again")


def test_pipeline(config: Config | Mapping[str, Any], source: str = "the config") -> list[Any]:
    """Return the test pipeline of a config, also of nested datasets; empty if there is none.

    Args:
        config: if it comes from a checkpoint, its values may be anything.
        source: its name, for messages.

    Raises:
        ConfigError: the pipeline is not a list, or datasets are nested too deeply.
    """
    loader = config.get("test_dataloader")
    dataset = loader.get("dataset") if isinstance(loader, Mapping) else None
    for _ in range(_MAX_NESTED_DATASETS):
        if not isinstance(dataset, Mapping) or "pipeline" in dataset:
            break
        dataset = dataset.get("dataset")
    else:
        raise ConfigError(f"{source}: test_dataloader has more than {_MAX_NESTED_DATASETS} nested datasets")
    steps = dataset.get("pipeline") if isinstance(dataset, Mapping) else None
    if steps and not isinstance(steps, (list, tuple)):
        raise ConfigError(f"{source}: the test pipeline is not a list but a {type(steps).__name__}")
    return list(steps or [])


@contextmanager
def _one_line(path: str | Path) -> Iterator[None]:
    """Replace any error of a config or a user's module by one line; they are programs, which can raise anything."""
    try:
        yield
    except ImportMistake as error:
        raise ConfigError(str(error)) from error
    except Exception as error:
        text = " ".join(str(error).split()) or "without a message"
        text += f"; {ONLY_NAMES}" if "'Lazy" in text else ""
        raise ConfigError(f"{_line_of(error, path)}: {type(error).__name__}: {text}") from error


def _line_of(error: Exception, path: str | Path) -> str:
    """Return file and line of the config that raised an error, or only the file if no line did."""
    lines = [
        f"{frame.f_code.co_filename}:{number}"
        for frame, number in traceback.walk_tb(error.__traceback__)
        if "LazyObject" in frame.f_globals
        and "__name__" not in frame.f_globals  # the globals in which mmengine runs a config
    ]
    return lines[-1] if lines else str(path)


def _import_custom_modules(config: Config, path: str | Path) -> None:
    """Import the modules in `custom_imports`, which mmengine ignores in configs that inherit by import."""
    custom = config.get("custom_imports")
    if not custom:
        return
    try:
        import_modules_from_strings(**custom)
    except (ImportError, TypeError) as error:
        raise ConfigError(f"{path}: custom_imports: {error.__context__ or error}") from error


def typed_parts(node: Any, key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (dotted key, dict) of every dict with a `type` at any depth of `node`, whose own key is `key`."""
    if isinstance(node, Mapping):
        if "type" in node:
            yield key, node
        for name, value in node.items():
            yield from typed_parts(value, f"{key}.{name}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            yield from typed_parts(value, f"{key}.{index}")


def _check_part(part: Mapping[str, Any], location: str) -> None:
    part_class = part["type"]
    if not inspect.isclass(part_class):
        return  # a registry name, which the registry checks
    parameters = inspect.signature(part_class).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    given = {key: value for key, value in part.items() if key not in ("type", "_scope_")}
    for name in present_arguments(part_class, given, warn=False):
        if name not in parameters:
            grouped = arguments_in_groups(part_class)
            close = difflib.get_close_matches(name, [*parameters, *grouped], n=1)
            hint = f"; did you mean {grouped.get(close[0], repr(close[0]))}?" if close else ""
            raise ConfigError(f"{location}: {part_class.__name__} takes no {name!r}{hint}")


def _check_distinct(keys: Sequence[str], path: str | Path) -> None:
    """Reject overrides of which one states what another does: either could win."""
    ordered = sorted(f"{key}." for key in keys)  # what lies below a key follows it
    for key, following in pairwise(ordered):
        if following.startswith(key):
            former = " (the present name of one that has a former name)" if key == following else ""
            raise ConfigError(
                f"{path}: got overrides of {key[:-1]!r} and of {following[:-1]!r}{former}; give one of the two"
            )


def _check_override(config: Config, key: str, path: str | Path) -> None:
    """Reject a key that the config does not have: it would have no effect. Within a part, the last name may be new."""
    node: Any = config
    *parents, leaf = key.split(".")
    owner = None
    for part in parents:
        part_class = _class_of(node)
        owner = part_class or owner
        if owner is not None and isinstance(node, Mapping) and part not in node:
            # a group of arguments that the config does not state: its class reports what is wrong within it
            if part_class is None or part in inspect.signature(part_class).parameters:
                return
        node = _child(node, part, key, path)
    is_known = bool(parents) or leaf in node or leaf in _OPTIONAL
    if not is_known:
        raise ConfigError(f"{path}: {key!r} is not a setting of it{_nearest(leaf, node, _OPTIONAL)}")
    root = (*parents, leaf)[0]
    if root not in SETTINGS:
        keys = [inner for name in config for inner in _keys_ending_in(leaf, config[name], name)]
        instead = f"change {' or '.join(keys)}" if keys else "change the settings that it is part of"
        raise ConfigError(f"{path}: {root!r} is read only while the file runs, so an override has no effect; {instead}")


def _move_former_arguments(node: Any, former: frozenset[str], source: str) -> None:
    """Give all arguments in a config that have `former` names their present ones."""
    if isinstance(node, Config):
        for key in node:
            _move_former_arguments(node[key], former, f"{source}: {key}")
    elif isinstance(node, dict):
        part_class = None if former.isdisjoint(node) else _class_of(node)
        if part_class is not None:
            move_former_arguments(part_class, node, source)
        for key, value in dict.items(node):  # not those of mmengine's dict, which import all classes of the config
            _move_former_arguments(value, former, f"{source}.{key}")
    elif isinstance(node, (list, tuple)):
        for index, value in enumerate(node):
            _move_former_arguments(value, former, f"{source}.{index}")


def _class_of(node: Any) -> type | None:
    """Return the class that a dict of a config is built into; None if it has no `type`, or one that is not found."""
    kind = node.get("type") if isinstance(node, Mapping) else None
    kind = class_named(kind) if isinstance(kind, str) else kind
    return kind if inspect.isclass(kind) else None


def _present_option(config: Config, key: str, value: Any) -> str:
    """Return the key of an override, with the present names of its arguments; a former name warns."""
    node: Any = config
    parts = key.split(".")
    for depth in range(len(parts)):
        part_class = _class_of(node)
        if part_class is not None:
            present = present_option(part_class, ".".join(parts[depth:]), value)
            if present != ".".join(parts[depth:]):
                return ".".join([*parts[:depth], present])
        try:
            node = _child(node, parts[depth], key, "")
        except ConfigError:
            break
    return key


def _keys_ending_in(leaf: str, node: Any, key: str) -> Iterator[str]:
    """Yield the dotted keys within `node`, whose own key is `key`, that end in `leaf`."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name == leaf:
                yield f"{key}.{name}"
            yield from _keys_ending_in(leaf, value, f"{key}.{name}")


def _child(node: Any, part: str, key: str, path: str | Path) -> Any:
    if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
        return node[int(part)]
    if isinstance(node, (dict, Config)) and part in node:
        return node[part]
    names = node if isinstance(node, (dict, Config)) else ()
    raise ConfigError(f"{path}: {key!r}: there is no {part!r}{_nearest(part, names)}")


def _nearest(name: str, names: Any, more: Sequence[str] = ()) -> str:
    close = difflib.get_close_matches(name, [*names, *more], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
