"""Settings of a whole process, for programs that do nothing else than one run."""

from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, is_main_process

from openvocab.config.modules import keep_modules_beside
from openvocab.engine.allocator import keep_freed_memory
from openvocab.engine.mmengine_loaders import guard_mmengine_loaders
from openvocab.engine.precision import Precision, use_fast_matmul


def own_process(config: Config) -> None:
    """Set up this process for a run of `config`, as our tools do; call it once the run's log is open.

    Freed memory is kept for re-use, float32 matrix products get the `precision` of the config, modules beside the
    config stay importable (for spawned loader workers), and mmengine's loaders read tensors and plain types alone.

    The library itself changes none of these: `load`, `Predictor`, datasets and metrics leave the process as the host
    has set it up. `build_runner` sets what mmengine's runner sets (random generators, start method and OpenCV threads
    of the loader, limit of open files, default scope) and the log; a resumed run computes its matrix products as it did
    when it began. A program of your own that trains may call this too.

    Raises:
        ValueError: `precision` is none of its words.
    """
    keep_freed_memory()
    _use_same_matmul(config.get("precision", "auto"))
    guard_mmengine_loaders()
    if config.filename:
        keep_modules_beside(Path(config.filename))


def _use_same_matmul(precision: Precision) -> None:
    """Let all ranks take the choice of rank 0: a resumed run, which keeps one, computes as each of them began."""
    choice = [use_fast_matmul(precision) if is_main_process() else None]
    broadcast_object_list(choice)
    if not is_main_process():
        use_fast_matmul(precision, keep=choice[0])
