"""Build the run that a config describes: mmengine's runner with safe files, strict loading and short logs."""

import atexit
import gc
import math
import os
import time
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed.nn.functional  # imported after a group starts, its default arguments keep it and its threads
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import LogProcessor, Runner
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from openvocab import version
from openvocab.checkpoint.checkpoint import check_training_state, load_checkpoint, newest_valid_checkpoint
from openvocab.checkpoint.start_weights import start_weights
from openvocab.checkpoint.strict_loading import check_same_weights
from openvocab.config.config import AMP_CHOICES, ConfigError, check_arguments, check_teacher, require_keys
from openvocab.datasets.contracts import vocabulary_of
from openvocab.engine.loader import complete_loader, guard_workers
from openvocab.engine.loader_workers import limit_workers
from openvocab.engine.resume import resume_run
from openvocab.engine.run_log import open_run_log
from openvocab.engine.stopping import StopRequest
from openvocab.engine.thread_count import threads_chosen
from openvocab.engine.tolerant_logging import make_tolerant, quiet_writer_threads, report_once
from openvocab.engine.training_plan import training_plan
from openvocab.engine.work_dir import WorkDirLock, check_nothing_is_lost, make_log_folder, take_work_dir
from openvocab.files.atomic_files import replacing
from openvocab.metrics.base import Metric, units_of
from openvocab.metrics.class_table import column_units, merge_rows
from openvocab.model import OpenVocabModel
from openvocab.registry import SCOPE


class OpenVocabRunner(Runner):
    """mmengine's runner, except for what it loads, how it ends and how much it prints."""

    work_dir_lock: WorkDirLock | None = None
    """Held by the rank that saves, until training ends."""
    resume_from: str | Path | None = None
    """Checkpoint to continue from; None takes the newest of the work dir."""
    plan: dict[str, Any] | None = None
    """Of the optimizer, see `training_plan`."""

    @cached_property
    def stop_request(self) -> StopRequest:
        """What SIGTERM and SIGINT ask of a training."""
        return StopRequest()

    def train(self) -> torch.nn.Module:
        """Train to the end and return the model; of a finished run that is resumed, only load the weights.

        Raises:
            WorkDirInUse: another process trains in the work dir.
            Stopped: SIGTERM or SIGINT came; what `resume` needs is saved.
        """
        if self.work_dir_lock is not None:
            self.work_dir_lock.acquire()
        try:
            if self._resume and not self._has_loaded and self._finds_finished_run():
                return self.model
            with self.stop_request.listening(), quiet_writer_threads():
                return super().train()
        finally:
            if self.work_dir_lock is not None:
                self.work_dir_lock.release()

    def _finds_finished_run(self) -> bool:
        """Look for the checkpoint to resume from; say whether nothing is left to train after it.

        Raises:
            WorkDirInUse: there are checkpoints, but none is whole: a new start would write over them.
        """
        self.resume_from = self.resume_from or newest_valid_checkpoint(self.work_dir)
        if self.resume_from is None:
            check_nothing_is_lost(Path(self.work_dir))
            self.logger.warning(f"nothing to resume in {self.work_dir}: starting from the beginning")
            self._resume = False
            return False
        return self._is_finished(self.resume_from)

    def test(self) -> dict[str, float]:
        """Test and return the metrics."""
        with quiet_writer_threads():
            return super().test()

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose workers end with the run; a hanging one ends the run (see `engine/loader.py`)."""
        if isinstance(dataloader, DataLoader):
            return dataloader
        loader = Runner.build_dataloader(complete_loader(dataloader), seed, diff_rank_seed)
        guard_workers(loader)
        return loader

    def setup_env(self, env_cfg: dict) -> None:
        """Start what ranks and workers need; two runs of the same second get a log folder each."""
        super().setup_env(env_cfg)
        name = [make_log_folder(Path(self.work_dir), self.timestamp) if is_main_process() else None]
        broadcast_object_list(name)
        self._timestamp = name[0]

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **options: Any) -> MMLogger:
        """Build mmengine's logger (which says what the arguments are) as the log of this run; see `open_run_log`.

        Where it cannot write, it says so once and goes on.
        """
        logger = super().build_logger(log_level, log_file, **options)
        open_run_log(logger)
        for handler in logger.handlers:
            report_once(handler)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Build mmengine's visualizer; where it cannot write, it says so once and goes on."""
        built = super().build_visualizer(visualizer)
        make_tolerant(built)
        return built

    def build_log_processor(self, log_processor: LogProcessor | dict[str, Any]) -> LogProcessor:
        """Build the log processor; one whose config has no type shows the units of metrics, too."""
        if isinstance(log_processor, dict):
            log_processor = {"type": "LogProcessor", **log_processor}
        return super().build_log_processor(log_processor)

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work dir; that of a test goes beside its log, to replace no training's."""
        folder = Path(self.work_dir if self._train_loop is not None else self._log_dir)
        path = folder / (Path(self.cfg.filename).name if self.cfg.filename else f"{self.timestamp}.py")
        if self.cfg.filename and path.exists() and path.samefile(self.cfg.filename):
            path = Path(self._log_dir) / path.name  # the user's own file stays as it is
        try:
            with replacing(path) as file:
                file.write(self.cfg.pretty_text)
        except OSError as error:
            self.logger.warning(f"the config is not written to {path}: {error}")

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call one stage of all hooks; a logger that cannot write costs a warning."""
        for hook in self.hooks:
            try:
                if hasattr(hook, fn_name):
                    getattr(hook, fn_name)(self, **kwargs)
            except OSError as error:
                if not isinstance(hook, LoggerHook):
                    raise
                self.logger.warning(f"the log of {fn_name} is not written: {error}")

    def load_or_resume(self) -> None:
        """Load `load_from`, or resume."""
        if self._has_loaded:
            return
        if isinstance(self.optim_wrapper, OptimWrapper):  # else nothing is trained
            self.plan = training_plan(self.unwrapped_model, self.optim_wrapper, self.param_schedulers or [])
        if self._resume:
            self.resume(str(self.resume_from))
        elif self._load_from is not None:
            self.load_checkpoint(str(self._load_from))

    def resume(self, filename: str) -> None:
        """Continue from a checkpoint, by the plan of the config; see `resume_run`."""
        resume_run(self, filename)
        self._has_loaded = True

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = True, revise_keys: Any = ()
    ) -> dict[str, Any]:
        """Load all weights of a file into the model, or none.

        Args:
            strict, revise_keys: of mmengine's signature; loading is always strict and renames nothing.

        Raises:
            ValueError: names or shapes differ; the message counts them.
        """
        checkpoint = load_checkpoint(filename, map_location)
        weights = checkpoint.get("state_dict", checkpoint)
        model = self.unwrapped_model
        check_same_weights(model.state_dict(), weights, filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model.load_state_dict(checkpoint.get("state_dict", checkpoint))
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    def _is_finished(self, path: str | Path) -> bool:
        """Say whether a checkpoint is at the end of the run, and if so load its weights.

        A last validation that a signal interrupted is still to be done.
        """
        content = load_checkpoint(path, map_location="meta")  # a run that goes on reads the weights when it resumes
        check_training_state(content, str(path))
        iteration, loop = content["meta"]["iter"], self._train_loop
        end = loop.get("max_iters", math.inf) if isinstance(loop, dict) else loop.max_iters
        if iteration < end or (self._val_loop is not None and content["loop"].get("unvalidated")):
            return False
        weights = load_checkpoint(path)["state_dict"]
        check_same_weights(self.unwrapped_model.state_dict(), weights, str(path))
        self.unwrapped_model.load_state_dict(weights)
        self._has_loaded = True
        self.call_hook("after_finished_run", checkpoint=content)
        self.logger.info(f"{path} is at iteration {iteration} of {end}: this run is finished, nothing is left to do")
        return True

    @property
    def unwrapped_model(self) -> torch.nn.Module:
        """The model itself, without DDP around it."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def require_weights(self) -> None:
        """Refuse to test a head that is trained and has no weights.

        Raises:
            ValueError: neither a checkpoint nor `load_from`, and the head has parameters.
        """
        model = self.unwrapped_model
        if self._load_from is None and isinstance(model, OpenVocabModel) and [*model.head.parameters()]:
            name = type(model.head).__name__
            raise ValueError(f"a checkpoint is needed: {name} is trained, its weights would be random")

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build the metrics; ranks pass their detections on through the work dir, which all machines of a run share."""
        built = super().build_evaluator(evaluator)
        for metric in built.metrics:
            if isinstance(metric, Metric) and metric.shard_folder is None:
                metric.shard_folder = self.work_dir
        return built

    def test_protocol(self) -> dict[str, Any]:
        """Return what the metrics of the last test say they were measured on, and the `units` of their numbers."""
        protocol: dict[str, Any] = {}
        for metric in self._own_test_metrics():
            protocol |= metric.protocol
        if protocol.get("templates") is None:
            protocol["templates"] = self._prompt_templates()
        vocabulary = vocabulary_of(self.test_dataloader.dataset)
        protocol["units"] = units_of(self.test_evaluator.metrics, vocabulary) | column_units(self.test_class_rows())
        return protocol

    def test_class_rows(self) -> list[dict[str, Any]]:
        """Return the scores of single classes in the last test, a row per class; see `Metric.class_rows`."""
        return merge_rows(metric.class_rows for metric in self._own_test_metrics())

    def _own_test_metrics(self) -> list[Metric]:
        return [metric for metric in self.test_evaluator.metrics if isinstance(metric, Metric)]

    def _prompt_templates(self) -> list[str] | str | None:
        """Return the templates of the text encoder, or its note on how its rows were made."""
        if not isinstance(self.unwrapped_model, OpenVocabModel):
            return None
        encoder = self.unwrapped_model.text_encoder
        return list(encoder.templates) if encoder.templates else encoder.templates_note

    def _init_model_weights(self) -> None:
        """Do nothing: parts start from their weights when they are built, and DDP shares those of rank 0."""

    def _log_env(self, env_cfg: dict) -> None:
        """Log one line of environment; the config goes to a file."""
        device = (
            torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
        )
        chosen = f" ({threads_chosen()})" if threads_chosen() else ""
        self.logger.info(
            f"openvocab {version.__version__}, torch {torch.__version__}, {device}{chosen}, "
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
    overwrite: bool = False,
) -> OpenVocabRunner:
    """Build the runner of a config; `.train()` or `.test()` then runs it.

    Settings of the whole process that only make it faster are `own_process`'s, which a program calls after this.

    Args:
        work_dir: of logs and checkpoints; None takes the config's, else `work_dirs/<name of the config>`.
        checkpoint: weights to start from, or to test.
        resume: continue from the newest whole checkpoint of the work dir (or from `checkpoint`).
        amp: bfloat16 autocast in training: "bf16" and "off" force it, "auto" takes it where it is faster; None takes
            the config's `optim_wrapper.amp`.
        launcher: `"none"` or `"pytorch"` (under torchrun); None takes the config's.
        seed: of everything random; None takes the config's.
        training: False leaves out the training parts, so that neither data nor optimizer are built.
        overwrite: move the files of a run that the work dir holds into a folder of their own there, and start afresh.

    Raises:
        WorkDirInUse: the work dir holds a run that is neither resumed nor overwritten, or another process trains there.
        ConfigError: a key that is needed is missing.
        ValueError: `amp` is none of its words.
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
    lock, moved_to = None, None
    if training:
        start = Path(checkpoint) if checkpoint is not None else None
        is_main = config.launcher == "none" or os.environ.get("RANK", "0") == "0"
        lock, moved_to = take_work_dir(
            Path(config.work_dir),
            resume=resume,
            checkpoint=start,
            overwrite=overwrite,
            is_main=is_main,
            config=Path(config.filename) if config.filename else None,
        )
    if seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": seed}
    if config.get("test_cfg") is not None:
        config.test_cfg.setdefault("type", "TestLoop")
    if training:
        complete_training(config, amp)
    else:
        _drop(config, "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
        _drop(config, "val_dataloader", "val_cfg", "val_evaluator")
    if config.launcher != "none":
        _prepare_distributed(config)
    workers_note = limit_workers(config)
    with start_weights(read=training or config.load_from is None):
        runner = OpenVocabRunner.from_cfg(config)
    runner.work_dir_lock = lock
    if moved_to is not None:
        runner.logger.warning(f"the files of the earlier run are in {moved_to} now")
    if lock is not None and lock.doubt:
        runner.logger.warning(lock.doubt)
    runner.resume_from = checkpoint if resume else None
    if workers_note:
        runner.logger.info(workers_note)
    return runner


def complete_training(config: Config, amp: str | None = None) -> None:
    """Add what a config of a training need not say; `amp` as in `build_runner`.

    Raises:
        ValueError: an unknown `amp`.
    """
    if amp not in (None, *AMP_CHOICES):
        raise ValueError(f"amp: expected one of {', '.join(AMP_CHOICES)}, or None for the config's, got {amp!r}")
    config.train_cfg.setdefault("type", "TrainLoop")
    if config.get("val_cfg") is not None:
        config.val_cfg.setdefault("type", "ValLoop")
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
        probe.unlink(missing_ok=True)  # another machine may have a process of this number
    except OSError as error:
        raise OSError(f"cannot write to the work dir {folder}: {error.strerror}") from error


def _prepare_distributed(config: Config) -> None:
    """Choose NCCL on GPUs, gloo on CPUs, where mmengine assumes CUDA."""
    if "LOCAL_RANK" not in os.environ:
        raise ConfigError("launcher 'pytorch' needs torchrun: torchrun --nproc_per_node N tools/train.py ...")
    on_gpu, rank, devices = torch.cuda.is_available(), int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if on_gpu and rank >= devices:
        raise ConfigError(f"--nproc_per_node: every rank needs a GPU of its own, expected at most {devices}")
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
            device_ids=[rank] if on_gpu else None,
            find_unused_parameters=config.get("find_unused_parameters", True),
            broadcast_buffers=True,
        )


def _leave_process_group() -> None:
    """Stop the threads of the group while Python still runs: killed at its exit, one of them may abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # a model that is only referred to by itself still holds the group
