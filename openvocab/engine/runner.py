"""Build the run that a config describes: mmengine's runner, but with safe files, strict loading and short logs."""

import math
import os
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process, master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import LoggerHook
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, LogProcessor, Runner
from mmengine.visualization import Visualizer
from torch.utils.data import DataLoader

from openvocab import version
from openvocab.checkpoint.checkpoint import (
    check_training_state,
    load_checkpoint,
    load_state_dict,
    newest_valid_checkpoint,
)
from openvocab.checkpoint.start_weights import start_weights
from openvocab.checkpoint.strict_loading import check_same_weights
from openvocab.config.config import check_arguments, check_teacher, require_keys
from openvocab.datasets.contracts import vocabulary_of
from openvocab.engine.early_end import EndsRuns
from openvocab.engine.loader import complete_loader, guard_workers
from openvocab.engine.loader_workers import limit_workers
from openvocab.engine.process_group import prepare_distributed
from openvocab.engine.resume import resume_run
from openvocab.engine.run_config import complete_training, drop_training, set_run
from openvocab.engine.run_facts import device_name, plan_lines
from openvocab.engine.run_length import LengthState, run_length_of, settle_length
from openvocab.engine.run_log import open_run_log
from openvocab.engine.stopping import StopRequest
from openvocab.engine.tolerant_logging import make_tolerant, quiet_writer_threads, report_once
from openvocab.engine.training_plan import training_plan
from openvocab.engine.work_dir import WorkDirLock, check_nothing_is_lost, make_log_folder, take_work_dir
from openvocab.files.atomic_files import replacing
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.metrics.base import Metric, units_of
from openvocab.metrics.class_table import column_units, merge_rows
from openvocab.missing_file import argument_of
from openvocab.model import OpenVocabModel

_HOOKS_OF_MMENGINE = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
"""Default hooks that mmengine adds to those of the config."""


class OpenVocabRunner(Runner):
    """mmengine's runner, except for what it loads, how it ends and how much it logs."""

    work_dir_lock: WorkDirLock | None = None
    """Held by the rank that saves, until training ends."""
    resume_from: str | Path | None = None
    """Checkpoint to continue from; None means the newest one in the work dir."""
    plan: dict[str, Any] | None = None
    """The plan of the optimizer, see `training_plan`; None in a test."""
    length: LengthState | None = None
    """The length of a run whose config has the setting `run_length`."""

    @cached_property
    def stop_request(self) -> StopRequest:
        """The request to stop, by SIGTERM or SIGINT."""
        return StopRequest()

    def train(self) -> torch.nn.Module:
        """Train to the end and return the model; if a resumed run is finished, only load its weights.

        Raises:
            WorkDirInUse: another process trains in the work dir.
            Stopped: SIGTERM or SIGINT came; a checkpoint to resume from is saved.
        """
        if self.work_dir_lock is not None:
            self.work_dir_lock.acquire()
        try:
            if self._resume and not self._has_loaded:
                self._find_checkpoint()
            settle_length(self, self.resume_from if self._resume else None)
            if self._resume and not self._has_loaded and self._is_finished(str(self.resume_from)):
                return self.model
            with self.stop_request.listening(), quiet_writer_threads():
                return super().train()
        finally:
            if self.work_dir_lock is not None:
                self.work_dir_lock.release()

    def _find_checkpoint(self) -> None:
        """Find the checkpoint to resume from; without one, start from the beginning.

        Raises:
            WorkDirInUse: there are checkpoints, but none is intact: a new start would overwrite them.
        """
        self.resume_from = self.resume_from or newest_valid_checkpoint(self.work_dir)
        if self.resume_from is None:
            check_nothing_is_lost(Path(self.work_dir))
            self.logger.warning(f"nothing to resume in {self.work_dir}: starting from the beginning")
            self._resume = False

    def test(self) -> dict[str, float]:
        """Test and return the metrics."""
        with quiet_writer_threads():
            return super().test()

    def build_model(self, model: torch.nn.Module | dict) -> torch.nn.Module:
        """Build the model of the config, or return one that is built; see mmengine."""
        with argument_of("model"):
            return super().build_model(model)

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int | None = None, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a loader whose workers end with the run; a hanging worker ends the run (see `engine/loader.py`)."""
        if isinstance(dataloader, DataLoader):
            return dataloader
        loader = Runner.build_dataloader(complete_loader(dataloader), seed, diff_rank_seed)
        guard_workers(loader)
        return loader

    def setup_env(self, env_cfg: dict) -> None:
        """Set up ranks and workers; two runs that start in the same second get separate log folders."""
        super().setup_env(env_cfg)
        name = [make_log_folder(Path(self.work_dir), self.timestamp) if is_main_process() else None]
        broadcast_object_list(name)
        self._timestamp = name[0]

    def build_logger(self, log_level: int | str = "INFO", log_file: str | None = None, **options: Any) -> MMLogger:
        """Build mmengine's logger (see there for the arguments) as the log of this run; see `open_run_log`.

        If it cannot write, it reports that once and the run continues.
        """
        logger = super().build_logger(log_level, log_file, **options)
        open_run_log(logger)
        for handler in logger.handlers:
            report_once(handler)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """Build mmengine's visualizer; if it cannot write, it reports that once and the run continues."""
        built = super().build_visualizer(visualizer)
        make_tolerant(built)
        return built

    def build_log_processor(self, log_processor: LogProcessor | dict[str, Any]) -> LogProcessor:
        """Build the log processor; default type: `UnitLogProcessor`, which adds the units of metrics."""
        if isinstance(log_processor, dict):
            log_processor = {"type": "LogProcessor", **log_processor}
        return super().build_log_processor(log_processor)

    def register_default_hooks(self, hooks: Any = None) -> None:
        """Register the default hooks of mmengine and of the config; None in place of a hook removes any of them."""
        hooks = {name: hook for name, hook in (hooks or {}).items() if hook is not None or name in _HOOKS_OF_MMENGINE}
        super().register_default_hooks(hooks)

    @master_only
    def dump_config(self) -> None:
        """Write the config into the work dir; a test writes it next to its log, to replace no training run's."""
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
        """Call one stage of all hooks; a logger that cannot write causes a warning."""
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
        if isinstance(self._train_loop, BaseLoop):
            for line in plan_lines(self):
                self.logger.info(line)

    def resume(self, filename: str) -> None:
        """Continue from a checkpoint with the plan of the config; see `resume_run`."""
        resume_run(self, filename)
        self._has_loaded = True

    def load_checkpoint(
        self, filename: str, map_location: Any = "cpu", strict: bool = True, revise_keys: Any = ()
    ) -> dict[str, Any]:
        """Load all weights of a file into the model, or none.

        Args:
            filename: path of a checkpoint, or of weights alone, also in safetensors.
            map_location: device of the tensors.
            strict, revise_keys: ignored arguments of mmengine's signature: loading is always strict, and renames
                nothing.

        Raises:
            ValueError: names or shapes differ; the message counts the differences.
        """
        if Path(filename).suffix == ".safetensors":
            checkpoint: dict[str, Any] = {"state_dict": load_state_dict(filename)}
        else:
            checkpoint = load_checkpoint(filename, map_location)
        weights = checkpoint.get("state_dict", checkpoint)
        model = self.unwrapped_model
        check_same_weights(model.state_dict(), weights, filename)
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model.load_state_dict(weights)
        self._has_loaded = True
        self.logger.info(f"loaded {filename}")
        return checkpoint

    def _is_finished(self, path: str | Path) -> bool:
        """Return whether a checkpoint is at the end of the run; if so, load its weights.

        A run that a hook has ended early (`EndsRuns`) is finished, too. A run is not finished if a signal interrupted
        its last validation.
        """
        content = load_checkpoint(path, map_location="meta")  # without the weights, which are read when the run resumes
        check_training_state(content, str(path))
        iteration, loop = content["meta"]["iter"], self._train_loop
        end = loop.get("max_iters", math.inf) if isinstance(loop, dict) else loop.max_iters
        ended_early = any(isinstance(hook, EndsRuns) and hook.has_ended(content) for hook in self.hooks)
        if iteration < end and not ended_early:
            return False
        if self._val_loop is not None and content["loop"].get("unvalidated"):
            return False
        weights = load_checkpoint(path)["state_dict"]
        check_same_weights(self.unwrapped_model.state_dict(), weights, str(path))
        self.unwrapped_model.load_state_dict(weights)
        self._has_loaded = True
        self.call_hook("after_finished_run", checkpoint=content)
        self.logger.info(f"{path} is at iteration {iteration} of {end}: this run is finished; nothing is left to do")
        return True

    @property
    def unwrapped_model(self) -> torch.nn.Module:
        """The model itself, without DDP around it."""
        return self.model.module if is_model_wrapper(self.model) else self.model

    def require_weights(self) -> None:
        """Refuse to test a trainable head without a checkpoint.

        Raises:
            ValueError: there is neither a checkpoint nor `load_from`, and the head has parameters.
        """
        model = self.unwrapped_model
        if self._load_from is None and isinstance(model, OpenVocabModel) and [*model.head.parameters()]:
            name = type(model.head).__name__
            raise ValueError(f"a checkpoint is needed: {name} is trained, and without one its weights would be random")

    def build_evaluator(self, evaluator: Any) -> Evaluator:
        """Build the metrics; ranks exchange detections through the work dir, which all machines of a run share."""
        built = super().build_evaluator(evaluator)
        for metric in built.metrics:
            if isinstance(metric, Metric) and metric.shard_folder is None:
                metric.shard_folder = self.work_dir
        return built

    def test_protocol(self) -> dict[str, Any]:
        """Return the protocol that the metrics of the last test state, and the `units` of their numbers."""
        protocol: dict[str, Any] = {}
        for metric in self._test_metrics():
            protocol |= metric.protocol
        if protocol.get("templates") is None:
            protocol["templates"] = self._prompt_templates()
        vocabulary = vocabulary_of(self.test_dataloader.dataset)
        if isinstance(self.unwrapped_model, OpenVocabModel):
            protocol |= self.unwrapped_model.prompt_facts(vocabulary)
        protocol["units"] = units_of(self.test_evaluator.metrics, vocabulary) | column_units(self.test_class_rows())
        return protocol

    def test_class_rows(self) -> list[dict[str, Any]]:
        """Return the scores of single classes in the last test, one row per class; see `Metric.class_rows`."""
        return merge_rows(metric.class_rows for metric in self._test_metrics())

    def _test_metrics(self) -> list[Metric]:
        """Return the metrics of the test, without those of other packages."""
        return [metric for metric in self.test_evaluator.metrics if isinstance(metric, Metric)]

    def _prompt_templates(self) -> list[str] | str | None:
        """Return the templates of the text encoder, or its note on how its embeddings were made."""
        model = self.unwrapped_model
        if isinstance(model, TransformersModel):
            return list(model.templates)
        if not isinstance(model, OpenVocabModel):
            return None
        encoder = model.text_encoder
        return list(encoder.templates) if encoder.templates else encoder.templates_note

    def _init_model_weights(self) -> None:
        """Do nothing: parts load their weights when they are built, and DDP copies those of rank 0 to all ranks."""

    def _log_env(self, env_cfg: dict) -> None:
        """Log the environment in one line; the config is written to a file."""
        processes = f", {self.world_size} processes" if self.world_size > 1 else ""
        versions = f"openvocab {version.__version__}, torch {torch.__version__}"
        self.logger.info(f"{versions}, on {device_name()}{processes}, seed {self.seed}")

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
    """Build the runner of a config; call `.train()` or `.test()` on it.

    `own_process` sets what concerns the whole process and only makes it faster; a program calls it after this function.

    Args:
        config: is not changed.
        work_dir: folder of logs and checkpoints; default: the config's, else `work_dirs/<name of the config>`.
        checkpoint: weights to start from, or to test.
        resume: continue from the newest intact checkpoint of the work dir (or from `checkpoint`).
        amp: bfloat16 autocast in training: "bf16" and "off" force it, "auto" uses it if it is faster; default: the
            config's `optim_wrapper.amp`.
        launcher: `"none"` or `"pytorch"` (under torchrun); default: the config's.
        seed: seed of all random choices; default: the config's.
        training: False drops the training parts, so that neither their data nor an optimizer is built.
        overwrite: move the files of a run that the work dir holds into a folder within it, and start anew.

    Raises:
        WorkDirInUse: the work dir holds a run that is neither resumed nor overwritten, or another process trains there.
        ConfigError: a required key is missing.
        ValueError: `amp` is not one of the choices.
        OSError: the work dir cannot be written.
    """
    config = config.copy()
    require_keys(config, training=training)
    check_arguments(config)
    check_teacher(config)
    set_run(config, work_dir=work_dir, checkpoint=checkpoint, resume=resume, launcher=launcher)
    lock, moved_to = None, None
    if training:
        lock, moved_to = take_work_dir(
            Path(config.work_dir),
            resume=resume,
            checkpoint=Path(checkpoint) if checkpoint is not None else None,
            overwrite=overwrite,
            is_main=config.launcher == "none" or os.environ.get("RANK", "0") == "0",
            config=Path(config.filename) if config.filename else None,
        )
    if seed is not None:
        config.randomness = {**config.get("randomness", {}), "seed": seed}
    if config.get("test_cfg") is not None:
        config.test_cfg.setdefault("type", "TestLoop")
    if training:
        run_length_of(config)  # reports a mistake before any data is read
        complete_training(config, amp)
    else:
        drop_training(config)
    if config.launcher != "none":
        prepare_distributed(config)
    workers_note = limit_workers(config)
    with start_weights(load=training or config.load_from is None):
        runner = OpenVocabRunner.from_cfg(config)
    runner.work_dir_lock = lock
    runner.resume_from = checkpoint if resume else None
    _log_start(runner, moved_to, workers_note)
    return runner


def _log_start(runner: OpenVocabRunner, moved_to: Path | None, workers_note: str) -> None:
    """Log what was decided before the log of the run was open."""
    if moved_to is not None:
        runner.logger.warning(f"the files of the earlier run are in {moved_to} now")
    if runner.work_dir_lock is not None and runner.work_dir_lock.doubt:
        runner.logger.warning(runner.work_dir_lock.doubt)
    if workers_note:
        runner.logger.info(workers_note)
