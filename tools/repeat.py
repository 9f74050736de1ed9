"""Train and test a config with several seeds: mean and spread of every metric.

python tools/repeat.py configs/clip_shapes.py --seeds 3 --checkpoint last
python tools/repeat.py configs/lseg_shapes.py --seeds 3 --after work_dirs/repeat/clip_shapes

The second command starts seed N from the CLIP of seed N: each setting of the config that names a file in
work_dirs/clip_shapes names the file of that seed instead. Either command continues if it is called again.
"{seed}" in `--cfg-options` is replaced by the seed.
"""

import argparse
import json
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from benchmarks.machine import cpu_model
from mmengine.config import Config
from repeats.all_seeds import run_all
from repeats.processes import ToolFailed
from repeats.seed_lock import seed_lock
from repeats.seed_run import SeedRun, read_record
from repeats.start_files import start_files
from repeats.summary import markdown_table, summarize

from openvocab.command_line import children_save_first, one_line_errors
from openvocab.config.config import check_arguments, read_config, require_keys
from openvocab.config.options import read_options, write_option
from openvocab.files.atomic_files import replacing
from openvocab.process.processor_cores import available_cores

PRECISION_OF_AMP = {None: "float32", "off": "float32", "bf16": "bfloat16"}
"""Precision by the value of `--amp` or of the config; that of "auto" is known after the training."""


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[3],
        metavar="N",
        help="how many (3: 0, 1, 2), or which ones",
    )
    parser.add_argument(
        "--work-dir", help="each seed's folder is seed_N below it; default: work_dirs/repeat/<config name>"
    )
    parser.add_argument("--after", nargs="+", default=[], metavar="DIR",
                        help="work dirs of the repeated configs whose weights this one starts from")  # fmt: skip
    parser.add_argument(
        "--checkpoint", choices=["best", "last"], default="best", help="checkpoint that is tested; default: best"
    )
    parser.add_argument("--amp", nargs="?", const="", metavar="FORM", help="passed on to tools/train.py")
    parser.add_argument("--jobs", type=int, default=1, help="seeds that run at once and share the cores; default: 1")
    parser.add_argument("--out", help="JSON file of the table; default: table.json in the work dir")
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                        help="passed on to both tools")  # fmt: skip
    return parser.parse_args()


def main() -> None:
    """Run the remaining work of every seed, then print the table."""
    arguments = parse_arguments()
    with one_line_errors(), children_save_first(), ExitStack() as locks:
        work_dir = Path(arguments.work_dir or Path("work_dirs/repeat") / Path(arguments.config).stem)
        runs = plan_runs(arguments, work_dir, locks)
        try:
            run_all(runs, arguments.jobs)
        except ToolFailed as error:
            sys.exit(f"error: {error}")
        summary = summarize(runs)
        with replacing(Path(arguments.out) if arguments.out else work_dir / "table.json") as file:
            file.write(json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        print(markdown_table(summary))


def plan_runs(arguments: argparse.Namespace, work_dir: Path, locks: ExitStack) -> list[SeedRun]:
    """Return the runs of all seeds, checked before any of them starts.

    Args:
        arguments: of the command line.
        work_dir: holds a folder per seed.
        locks: gets the locks of unfinished seeds, which keep other processes from them.

    Raises:
        ValueError: a seed is given twice, another process works on one, or a folder holds a run with other settings.
        OSError, ConfigError: the config cannot be read, or weights that it starts from are missing.
    """
    seeds = list(range(arguments.seeds[0])) if len(arguments.seeds) == 1 else arguments.seeds
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"--seeds: expected at least one, and each only once, got {arguments.seeds}")
    if arguments.jobs < 1:
        raise ValueError(f"--jobs: expected at least 1, got {arguments.jobs}")
    runs = [plan_run(arguments, work_dir / f"seed_{seed}", seed) for seed in seeds]
    for run in runs:
        if not run.is_finished:
            locks.enter_context(seed_lock(run.folder))
    for run in runs:
        run.check_settings()
    return runs


def plan_run(arguments: argparse.Namespace, folder: Path, seed: int) -> SeedRun:
    """Return the run of a seed."""
    cfg_options = [option.replace("{seed}", str(seed)) for option in arguments.cfg_options]
    config = read_config(arguments.config, read_options(cfg_options))
    require_keys(config, training=True)
    require_keys(config, training=False)
    check_arguments(config)
    settings: dict[str, Any] = {"config": config.pretty_text, "amp": arguments.amp, "seed": seed}
    starts: dict[str, str] = {}
    for earlier in map(Path, arguments.after):
        starts |= start_files(config, earlier, seed)
        settings.setdefault("after", []).append(read_record(earlier / f"seed_{seed}")["settings"])
    return SeedRun(
        config=arguments.config,
        seed=seed,
        folder=folder,
        settings=settings,
        machine=describe_machine(config, arguments.amp, arguments.jobs),
        cfg_options=(*cfg_options, *(write_option(key, file) for key, file in starts.items())),
        train_options=() if arguments.amp is None else tuple(filter(None, ("--amp", arguments.amp))),
        checkpoint=arguments.checkpoint,
    )


def describe_machine(config: Config, amp: str | None, jobs: int) -> dict[str, Any]:
    """Return what the time of a run depends on, as far as known before the training."""
    precision = config.optim_wrapper.get("amp") if amp is None else amp or "bf16"
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu_model(),
        "threads": max(1, _total_threads() // jobs),
        "jobs": jobs,
        "torch": torch.__version__,
        "precision": PRECISION_OF_AMP.get(precision, precision),
    }


def _total_threads() -> int:
    """Return the number of threads of all jobs together: OMP_NUM_THREADS, or else one per core."""
    count = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # further numbers are for nested threads
    return int(count) if count.isdecimal() else available_cores()


if __name__ == "__main__":
    main()
