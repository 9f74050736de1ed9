"""What a user wants to know of a run before it starts, in a few lines and as a table."""

import platform
from pathlib import Path

import torch
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from openvocab import version
from openvocab.datasets.contracts import StatesFacts, vocabulary_of
from openvocab.engine.optim_wrapper import StatesComputeDtype
from openvocab.engine.thread_count import threads_chosen
from openvocab.model import OpenVocabModel
from openvocab.vocabulary.vocabulary import Vocabulary


def device_name() -> str:
    """Return the name of the processor that computes: a GPU, or the number of threads of the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    threads = torch.get_num_threads()
    chosen = f" ({threads_chosen()})" if threads_chosen() else ""
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}{chosen}"


def plan_lines(runner: Runner) -> list[str]:
    """Return how long a training will run and on what, and where its results go, a line each."""
    images = runner.train_dataloader.batch_size * runner.world_size
    length = _length(runner.train_dataloader)
    epochs = f" ({runner.max_iters * images / length:.3g} times all {length})" if length else ""
    start = f", from iteration {runner.iter}" if runner.iter else ""
    plan = f"training: {runner.max_iters} iterations of {images} images{epochs}{start}"
    if runner.val_loop is not None:
        plan += f"; validation every {runner.val_interval} iterations on {_described(runner.val_dataloader)}"
    return [plan, f"results: {short_path(runner.work_dir)}; Ctrl-C saves and stops, --resume continues"]


def config_facts(runner: Runner) -> dict[str, str]:
    """Return the essentials of a run's config by name."""
    model, wrapper = runner.unwrapped_model, runner.optim_wrapper
    facts = {"config": str(runner.cfg.filename or "–"), "work dir": str(runner.work_dir)}
    if isinstance(model, OpenVocabModel):
        facts |= {name.replace("_", " "): _part(getattr(model, name)) for name in ("backbone", "text_encoder", "head")}
    else:
        facts["model"] = _part(model)
    facts["training data"] = _described(runner.train_dataloader)
    if runner.val_loop is not None:
        facts["validation data"] = _described(runner.val_dataloader)
    facts["batch size"] = f"{runner.train_dataloader.batch_size} × {runner.world_size} process(es)"
    facts["iterations"] = str(runner.max_iters)
    options = {**runner.cfg.optim_wrapper.get("optimizer", {})}
    kind = options.pop("type", "")
    facts["optimizer"] = ", ".join(
        [kind if isinstance(kind, str) else kind.__name__, *(f"{key} {value}" for key, value in options.items())]
    )
    if isinstance(wrapper, StatesComputeDtype) and wrapper.compute_dtype is not None:
        facts["computes in"] = wrapper.compute_dtype
    return {**facts, "seed": str(runner.seed)}


def environment_facts(runner: Runner) -> dict[str, str]:
    """Return what the run depends on in addition to its config: versions, device and host."""
    return {
        "openvocab": version.__version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "device": device_name(),
        "processes": str(runner.world_size),
        "system": platform.platform(),
        "host": platform.node(),
    }


def _part(part: nn.Module) -> str:
    """Return the class of a part and how many parameters it has and trains."""
    total = sum(parameter.numel() for parameter in part.parameters())
    trained = sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)
    return f"{type(part).__name__}, {total / 1e6:.2f} M parameters, {trained / 1e6:.2f} M trained"


def _described(loader: DataLoader) -> str:
    """Return the name of a loader's dataset, its number of images and of classes."""
    dataset = loader.dataset
    name = dataset.metainfo.get("dataset") if isinstance(dataset, StatesFacts) else None
    length, vocabulary = _length(loader), vocabulary_of(dataset)
    words = [str(name)] if name else []
    words += [f"{length} images"] if length else []
    return ", ".join([*words, *([_classes(vocabulary)] if vocabulary is not None else [])]) or type(dataset).__name__


def _classes(vocabulary: Vocabulary) -> str:
    unseen = vocabulary.seen.count(False) if vocabulary.seen is not None else 0
    return f"{len(vocabulary)} classes" + (f" ({unseen} of them unseen in training)" if unseen else "")


def _length(loader: DataLoader) -> int:
    """Return the number of samples; 0 if the dataset is a stream."""
    return len(loader.dataset) if hasattr(loader.dataset, "__len__") else 0


def short_path(path: str | Path) -> str:
    """Return a path as it is shortest to type from the current folder."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


def duration(seconds: float) -> str:
    """Return a duration as text: "42 s", "5 min 03 s", "2 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
