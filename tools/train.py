"""Train the model of a config.

python tools/train.py configs/lseg_shapes.py [--resume] [--amp {auto,bf16,off}]
torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch

SIGTERM and Ctrl-C save before the next step and end with exit code 143 and 130; a second one ends at once.
"""

import openvocab.process.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
import sys

from openvocab.config.config import AMP_CHOICES
from openvocab.config.options import add_config_options


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of checkpoints and logs; default: work_dirs/<config name>")
    earlier = parser.add_mutually_exclusive_group()  # what to do about a run that the folder holds already
    earlier.add_argument("--resume", action="store_true", help="continue from the newest whole checkpoint there")
    earlier.add_argument("--overwrite", action="store_true",
                         help="start again there; the files of the earlier run are moved to earlier-TIME/")  # fmt: skip
    parser.add_argument("--amp", nargs="?", choices=AMP_CHOICES, const="bf16",
                        help="bfloat16 mixed precision: auto where it is faster, bf16 (or no word) always, off never; "
                             "default: the config's")  # fmt: skip
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    add_config_options(parser)
    return parser.parse_args(_with_word_of_amp(sys.argv[1:]))


def _with_word_of_amp(words: list[str]) -> list[str]:
    """Give a bare `--amp` its word, so that argparse does not take the config behind it for one."""
    following = [*words[1:], ""]
    return ["--amp=bf16" if w == "--amp" and n not in AMP_CHOICES else w for w, n in zip(words, following)]


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    # after the arguments, so that --help and a mistyped option need not wait for torch and mmengine's runner
    from openvocab.command_line import one_line_errors
    from openvocab.config.config import read_config
    from openvocab.engine.own_process import own_process
    from openvocab.engine.runner import build_runner

    with one_line_errors():
        config = read_config(arguments.config, arguments.cfg_options)
        runner = build_runner(
            config,
            work_dir=arguments.work_dir,
            resume=arguments.resume,
            overwrite=arguments.overwrite,
            amp=arguments.amp,
            launcher=arguments.launcher,
            seed=arguments.seed,
        )
        own_process(config)
        runner.train()


if __name__ == "__main__":
    main()
