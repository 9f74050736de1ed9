"""Build the run that a config describes: mmengine's runner with safe files, strict loading and short logs."""

import atexit
import gc
import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed.nn.functional  # imported after a group starts, its default arguments keep it and its threads
from mmengine.config import Config
from mmengine.dist import is_distributed
from mmengine.evaluator import Evaluator
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

import openvocab
from openvocab.checkpoint import check_same_weights, load_checkpoint, newest_valid_checkpoint
from openvocab.config import ConfigError, check_arguments, check_teacher, require_keys
from openvocab.engine.allocator import keep_freed_memory
from openvocab.engine.loader_workers import limit_workers
from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.precision import use_fast_matmul
from openvocab.engine.thread_count import keep_num_threads, threads_chosen
from openvocab.registry import SCOPE
from openvocab.start_weights import start_weights

AMP_CHOICES = ("auto", "bf16", "off")


class OpenVocabRunner(Runner):
    """mmengine's runner, except for what it loads and how much it prints."""

    def load_or_resume(self) -> None:
        """Load `load_from`, or resume from the newest checkpoint of the work dir that is whole."""
        if self._has_loaded:
            return
        path = self._load_from
        if self._resume and path is None:
            path = newest_valid_checkpoint(self.work_dir)
            if path is None:
                self.logger.warning(f"nothing to resume in {self.work_dir}: starting from the beginning")
        if path is None:
            self._resume = False
        elif self._resume:
            self.resume(str(path))
        else:
            self.load_checkpoint(str(path))

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = True, revise_keys: Any = ()
    ) -> dict[str, Any]:
        """Load all weights of a file into the model, or none.

        Args:
            strict, revise_keys: of mmengine's signature; loading is always strict and renames nothing.

        Raises:
            ValueError: names or shapes differ; the message lists them. To resume: the file holds no training state, or
                the class list has changed.
        """
        checkpoint = load_checkpoint(filename, map_location)
        if self._resume:
            self._check_same_run(checkpoint, filename)
            self.train_loop.resume_at(checkpoint["loop"], checkpoint["random_states"])
        weights = checkpoint.get("state_dict", checkpoint)
        model = self.unwrapped_model
        check_same_weights(model.state_dict(), weights, filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model.load_state_dict(checkpoint.get("state_dict", checkpoint))
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    @property
    def unwrapped_model(self) -> torch.nn.Module:
        """The model itself, without DDP around it."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def require_weights(self) -> None:
        """Refuse to test a head that is trained and has no weights.

        Raises:
            ValueError: neither a checkpoint nor `load_from`, and the head has parameters.
        """
        head = getattr(self.unwrapped_model, "head", None)
        if self._load_from is None and head is not None and next(head.parameters(), None) is not None:
            raise ValueError(f"a checkpoint is needed: {type(head).__name__} is trained, its weights would be random")

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build the metrics; ranks pass their detections on through the work dir, which all machines of a run share."""
        built = super().build_evaluator(evaluator)
        for metric in built.metrics:
            if getattr(metric, "shard_folder", "") is None:
                metric.shard_folder = self.work_dir
        return built

    def test_protocol(self) -> dict[str, Any]:
        """Return what the metrics of the last test say they were measured on."""
        protocol: dict[str, Any] = {}
        for metric in self.test_evaluator.metrics:
            protocol |= getattr(metric, "protocol", {})
        if protocol.get("templates") is None:
            protocol["templates"] = self._prompt_templates()
        return protocol

    def _prompt_templates(self) -> list[str] | str | None:
        """Return the templates of the text encoder, or its note on how its rows were made."""
        encoder = getattr(self.unwrapped_model, "text_encoder", None)
        templates = getattr(encoder, "templates", None)
        return list(templates) if templates else getattr(encoder, "templates_note", None)

    def _check_same_run(self, checkpoint: dict[str, Any], filename: str) -> None:
        missing = [key for key in ("meta", "optimizer", "loop", "random_states") if key not in checkpoint]
        if missing:
            raise ValueError(f"{filename} holds weights but no training state ({', '.join(missing)}); use load_from")
        saved = checkpoint["meta"]
        if saved.get("compute_dtype") is not None and isinstance(self.optim_wrapper, SafeOptimWrapper):
            self.optim_wrapper.keep_dtype(saved["compute_dtype"])
        keep_num_threads(saved.get("num_threads"), threads_chosen())
        vocabulary = getattr(self.train_dataloader.dataset, "vocabulary", None)
        names = None if vocabulary is None else list(vocabulary.class_names)
        if saved["class_names"] != names:
            raise ValueError(f"{filename} was trained on other classes: {_difference(saved['class_names'], names)}")
        now = {"world_size": self.world_size, "batch_size": self.train_dataloader.batch_size}
        changed = [f"{key} {saved[key]} -> {value}" for key, value in now.items() if saved[key] != value]
        if changed:
            self.logger.warning(f"resumed with {', '.join(changed)}: the run will not be equal to an uninterrupted one")

    def _init_model_weights(self) -> None:
        """Do nothing: parts start from their weights when they are built, and DDP shares those of rank 0."""

    def _log_env(self, env_cfg: dict) -> None:
        """Log one line of environment; the config goes to a file."""
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        chosen = f" ({threads_chosen()})" if threads_chosen() else ""
        self.logger.info(
            f"openvocab {openvocab.__version__}, torch {torch.__version__}, {device}{chosen}, "
            f"{self.world_size} process(es), "
            f"seed {self.seed}, work dir {self.work_dir}"
        )

    def get_hooks_info(self) -> str:
        """Return the names of the hooks in their order."""
        return ", ".join(type(hook).__name__ for hook in self.hooks)


def build_runner(
    config: Config,
    *,
    work_dir: str | Path | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    amp: Literal["auto", "bf16", "off"] | None = None,
    launcher: str | None = None,
    seed: int | None = None,
    training: bool = True,
) -> OpenVocabRunner:
    """Build the runner of a config; `.train()` or `.test()` then runs it.

    Args:
        work_dir: of logs and checkpoints; None takes the config's, else `work_dirs/<name of the config>`.
        checkpoint: weights to start from, or to test.
        resume: continue from the newest whole checkpoint of the work dir (or from `checkpoint`).
        amp: bfloat16 autocast in training: "bf16" and "off" force it, "auto" takes it where it is faster; None takes
            the config's `optim_wrapper.amp`.
        launcher: `"none"` or `"pytorch"` (under torchrun); None takes the config's.
        seed: of everything random; None takes the config's.
        training: False leaves out the training parts, so that neither data nor optimizer are built.

    Raises:
        ConfigError: a key that is needed is missing.
        ValueError: `precision` or `amp` is none of its words.
        OSError: the work dir cannot be written.
    """
    config = config.copy()
    require_keys(config, training=training)
    check_arguments(config)
    check_teacher(config)
    config.work_dir = str(work_dir or config.get("work_dir") or Path("work_dirs") / Path(config.filename or "run").stem)
    _check_writable(Path(config.work_dir))
    config.default_scope = SCOPE
    # mmengine shares logger and message hub between runs of one name, which has a resolution of seconds
    config.experiment_name = f"{Path(config.work_dir).name}_{time.time_ns() % 10**9:09d}"
    config.resume = resume
    config.load_from = str(checkpoint) if checkpoint is not None else config.get("load_from")
    config.launcher = launcher or config.get("launcher", "none")
    if seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": seed}
    if training:
        _complete_training(config, amp)
    else:
        _drop(config, "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
        _drop(config, "val_dataloader", "val_cfg", "val_evaluator")
    if config.launcher != "none":
        _prepare_distributed(config)
    workers_note = limit_workers(config)
    with start_weights(read=training or config.load_from is None):
        runner = OpenVocabRunner.from_cfg(config)
    if workers_note:
        runner.logger.info(workers_note)
    keep_freed_memory()
    use_fast_matmul(config.get("precision", "auto"))  # after the logger, before anything is computed
    return runner


def _complete_training(config: Config, amp: str | None) -> None:
    if amp not in (None, *AMP_CHOICES):
        raise ValueError(f"amp: expected one of {', '.join(AMP_CHOICES)}, or None for the config's, got {amp!r}")
    config.train_cfg.setdefault("type", "TrainLoop")
    config.train_dataloader.setdefault("sampler", dict(type="ResumableSampler", shuffle=True))
    config.optim_wrapper.setdefault("type", "SafeOptimWrapper")
    config.optim_wrapper.setdefault("constructor", "GroupedOptimConstructor")
    if amp is not None:
        config.optim_wrapper.amp = None if amp == "off" else amp


def _drop(config: Config, *keys: str) -> None:
    for key in keys:
        config.pop(key, None)


def _check_writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"cannot write to the work dir {folder}: {error.strerror}") from error


def _prepare_distributed(config: Config) -> None:
    """Choose NCCL on GPUs, gloo on CPUs, where mmengine assumes CUDA."""
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError("launcher 'pytorch' needs torchrun: torchrun --nproc_per_node N tools/train.py ...")
    on_gpu = torch.cuda.is_available()
    if not on_gpu and not is_distributed():
        seconds = (config.get("env_cfg") or {}).get("dist_cfg", {}).get("timeout")
        timeout = None if seconds is None else timedelta(seconds=seconds)  # None: torch's own
        torch.distributed.init_process_group("gloo", timeout=timeout)
    atexit.register(_leave_process_group)
    if not on_gpu:
        config.pop("sync_bn", None)  # torch synchronises batch statistics on GPUs only
    if config.get("model_wrapper_cfg") is None:
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=[int(os.environ["LOCAL_RANK"])] if on_gpu else None,
            find_unused_parameters=config.get("find_unused_parameters", True),
            broadcast_buffers=True,
        )


def _leave_process_group() -> None:
    """Stop the threads of the group while Python still runs: killed at its exit, one of them may abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # a model that is only referred to by itself still holds the group


def _difference(saved: list[str] | None, now: list[str] | None) -> str:
    if saved is None or now is None:
        return f"{'none' if saved is None else len(saved)} then, {'none' if now is None else len(now)} now"
    for index, (old, new) in enumerate(zip(saved, now)):
        if old != new:
            return f"class {index} was {old!r}, is {new!r}"
    return f"{len(saved)} then, {len(now)} now"
