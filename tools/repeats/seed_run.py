"""The training and the test of one seed: tools/train.py and tools/test.py, in a folder that records the settings."""

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine.work_dir import WorkDirLock
from openvocab.files.atomic_files import replacing
from repeats.processes import Processes

TOOLS = Path(__file__).resolve().parents[1]
RECORD = "repeat.json"
"""File in the folder of a seed with its settings and its progress."""


@dataclass(frozen=True)
class SeedRun:
    """One seed of a config; its folder holds checkpoints, logs, metrics, `output.txt` and `repeat.json`."""

    config: str
    seed: int
    folder: Path
    settings: Mapping[str, Any]
    """Plain values that the weights depend on."""
    machine: Mapping[str, Any]
    """Plain values that the time of the run depends on."""
    cfg_options: tuple[str, ...] = ()
    """Of both tools, each "KEY=VALUE"."""
    train_options: tuple[str, ...] = ()
    checkpoint: str = "best"
    """The checkpoint that is tested: "best" or "last"."""

    @property
    def metrics_file(self) -> Path:
        """File of the metrics of the tested checkpoint."""
        return self.folder / f"metrics_{self.checkpoint}.json"

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do."""
        return "train" in read_record(self.folder) and self.metrics_file.is_file()

    @property
    def _has_checkpoints(self) -> bool:
        return any(self.folder.glob("*.pth"))

    def check_settings(self) -> None:
        """Reject the folder of a run with other settings, unless that run has neither saved nor finished.

        Raises:
            ValueError: the settings differ; the message names the first difference.
        """
        record = read_record(self.folder)
        saved = record.get("settings", {})
        if (self._has_checkpoints or "train" in record) and saved != self.settings:
            raise ValueError(
                f"{self.folder} was made with other settings ({first_difference(saved, self.settings)}); "
                "use another --work-dir, or remove that folder"
            )

    def run(self, processes: Processes, environment: Mapping[str, str]) -> None:
        """Do the remaining work: train, continuing a run that was stopped, then test.

        Raises:
            ToolFailed: a tool failed.
            WorkDirInUse: a training run of another process uses the folder; nothing is changed.
            FileNotFoundError: the training has not written the checkpoint to test.
        """
        if "train" not in read_record(self.folder):
            self._train(processes, environment)
        if not self.metrics_file.is_file():
            self._test(processes, environment)

    def _train(self, processes: Processes, environment: Mapping[str, str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        record = {"config": self.config, "settings": self.settings, "machine": self.machine}
        with self._training_locked():
            self.check_settings()
            is_resumed = self._has_checkpoints
            for metrics in self.folder.glob("metrics_*.json"):  # of weights that no longer exist
                metrics.unlink()
            self._write_record(record)
        resume = ("--resume",) if is_resumed else ()
        options = ("--work-dir", str(self.folder), "--seed", str(self.seed), *resume, *self.train_options)
        seconds = self._call(processes, environment, "train.py", *options)
        record["machine"] = {**self.machine, **self._machine_choices()}
        # the time of a part that was killed is unknown, so that a resumed run has no time
        self._write_record({**record, "train": {"seconds": None if is_resumed else seconds}})

    @contextmanager
    def _training_locked(self) -> Iterator[None]:
        """Hold the training lock in this block: a training run may have outlived the process that started it."""
        lock = WorkDirLock(self.folder)
        lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _machine_choices(self) -> dict[str, Any]:
        """Return what the training chose by the machine: its precision if that was `auto`, its threads."""
        path = self.folder / "last.pth"
        meta = load_checkpoint(path, map_location="meta")["meta"] if path.is_file() else {}
        choices = {"precision": meta.get("compute_dtype"), "threads": meta.get("num_threads")}
        return {key: value or self.machine[key] for key, value in choices.items()}

    def _test(self, processes: Processes, environment: Mapping[str, str]) -> None:
        checkpoint = self.folder / f"{self.checkpoint}.pth"
        if not checkpoint.is_file():
            raise FileNotFoundError(f"seed {self.seed}: the training has not written {checkpoint}; see --checkpoint")
        options = (str(checkpoint), "--work-dir", str(self.folder / "test"), "--out", str(self.metrics_file))
        self._call(processes, environment, "test.py", *options)

    def _call(self, processes: Processes, environment: Mapping[str, str], tool: str, *options: str) -> float:
        """Run a tool and return its seconds."""
        overrides = ("--cfg-options", *self.cfg_options) if self.cfg_options else ()
        command = [sys.executable, str(TOOLS / tool), self.config, *options, *overrides]
        start = time.monotonic()
        processes.run(command, environment, self.folder / "output.txt", f"[seed {self.seed}] ")
        return time.monotonic() - start

    def _write_record(self, record: Mapping[str, Any]) -> None:
        with replacing(self.folder / RECORD) as file:
            file.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of the run of a seed; {} if none was started."""
    path = folder / RECORD
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def first_difference(saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Return the first setting that differs with both values, or the first different lines of a long text."""
    for key in (*now, *saved):
        old, new = saved.get(key), now.get(key)
        if old != new:
            return f"{key}: {_first_other_line(old, new)}"
    return "none"


def _first_other_line(old: Any, new: Any) -> str:
    old_lines, new_lines = str(old).splitlines(), str(new).splitlines()
    for old_line, new_line in zip(old_lines, new_lines):
        if old_line != new_line:
            return f"{old_line.strip()} then, {new_line.strip()} now"
    return f"{len(old_lines)} lines then, {len(new_lines)} now"
