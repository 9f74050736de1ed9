"""Build the run that a config describes: mmengine's runner with safe files, strict loading and short logs."""

import atexit
import gc
import os
import time
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed.nn.functional  # imported after a group starts, its default arguments keep it and its threads
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_distributed, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

import openvocab
from openvocab.atomic_files import replacing
from openvocab.checkpoint import check_same_weights, load_checkpoint, newest_valid_checkpoint
from openvocab.config import ConfigError, check_arguments, check_teacher, require_keys
from openvocab.engine.allocator import keep_freed_memory
from openvocab.engine.evaluation_loops import StoppableValLoop  # noqa: F401  registered
from openvocab.engine.loader import complete_loader, guard_workers
from openvocab.engine.precision import use_fast_matmul
from openvocab.engine.stopping import StopRequest
from openvocab.engine.tolerant_logging import make_tolerant, quiet_writer_threads, report_once
from openvocab.engine.work_dir import WorkDirLock, make_log_folder, take_work_dir
from openvocab.registry import SCOPE
from openvocab.start_weights import start_weights


class OpenVocabRunner(Runner):
    """mmengine's runner, except for what it loads, how it ends and how much it prints."""

    work_dir_lock: WorkDirLock | None = None
    """Held by the rank that saves, until training ends."""

    @cached_property
    def stop_request(self) -> StopRequest:
        """What SIGTERM and SIGINT ask of a training."""
        return StopRequest()

    def train(self) -> torch.nn.Module:
        """Train and return the model.

        Raises:
            WorkDirInUse: another process trains in the work dir.
            Stopped: SIGTERM or SIGINT came; what `resume` needs is saved.
        """
        if self.work_dir_lock is not None:
            self.work_dir_lock.acquire()
        try:
            with self.stop_request.listening(), quiet_writer_threads():
                return super().train()
        finally:
            if self.work_dir_lock is not None:
                self.work_dir_lock.release()

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

    def build_logger(self, *arguments: Any, **options: Any) -> MMLogger:
        """Build mmengine's logger; where it cannot write, it says so once and goes on."""
        logger = super().build_logger(*arguments, **options)
        for handler in logger.handlers:
            report_once(handler)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Build mmengine's visualizer; where it cannot write, it says so once and goes on."""
        built = super().build_visualizer(visualizer)
        make_tolerant(built)
        return built

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work dir; that of a test goes beside its log, to replace no training's."""
        folder = Path(self.work_dir if self._train_loop is not None else self._log_dir)
        path = folder / (Path(self.cfg.filename).name if self.cfg.filename else f"{self.timestamp}.py")
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
        self.logger.info(
            f"openvocab {openvocab.__version__}, torch {torch.__version__}, {device}, {self.world_size} process(es), "
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
    amp: bool = False,
    launcher: str | None = None,
    seed: int | None = None,
    training: bool = True,
    overwrite: bool = False,
) -> OpenVocabRunner:
    """Build the runner of a config; `.train()` or `.test()` then runs it.

    Args:
        work_dir: of logs and checkpoints; None takes the config's, else `work_dirs/<name of the config>`.
        checkpoint: weights to start from, or to test.
        resume: continue from the newest whole checkpoint of the work dir (or from `checkpoint`).
        amp: bfloat16 autocast in training.
        launcher: `"none"` or `"pytorch"` (under torchrun); None takes the config's.
        seed: of everything random; None takes the config's.
        training: False leaves out the training parts, so that neither data nor optimizer are built.
        overwrite: move the files of a run that the work dir holds into a folder of their own there, and start afresh.

    Raises:
        WorkDirInUse: the work dir holds a run that is neither resumed nor overwritten, or another process trains there.
        ConfigError: a key that is needed is missing.
        ValueError: `precision` is none of its words.
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
            Path(config.work_dir), resume=resume, checkpoint=start, overwrite=overwrite, is_main=is_main
        )
    if seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": seed}
    if config.get("test_cfg") is not None:
        config.test_cfg.setdefault("type", "TestLoop")
    if training:
        _complete_training(config, amp)
    else:
        _drop(config, "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
        _drop(config, "val_dataloader", "val_cfg", "val_evaluator")
    if config.launcher != "none":
        _prepare_distributed(config)
    with start_weights(read=training or config.load_from is None):
        runner = OpenVocabRunner.from_cfg(config)
    runner.work_dir_lock = lock
    if moved_to is not None:
        runner.logger.warning(f"the files of the earlier run are in {moved_to} now")
    keep_freed_memory()
    use_fast_matmul(config.get("precision", "auto"))  # after the logger, before anything is computed
    return runner


def _complete_training(config: Config, amp: bool) -> None:
    config.train_cfg.setdefault("type", "TrainLoop")
    if config.get("val_cfg") is not None:
        config.val_cfg.setdefault("type", "ValLoop")
    config.train_dataloader.setdefault("sampler", dict(type="ResumableSampler", shuffle=True))
    config.optim_wrapper.setdefault("type", "SafeOptimWrapper")
    config.optim_wrapper.setdefault("constructor", "GroupedOptimConstructor")
    if amp:
        config.optim_wrapper.amp = "bf16"


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
