"""Train the model of a config.

python tools/train.py configs/lseg_shapes.py [--resume] [--amp {auto,bf16,off}]
torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch
"""

import openvocab.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
import sys

from mmengine.config import DictAction

from openvocab.command_line import one_line_errors
from openvocab.config import read_config
from openvocab.engine.runner import AMP_CHOICES, build_runner


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("--work-dir", help="folder of checkpoints and logs; default: work_dirs/<config name>")
    parser.add_argument("--resume", action="store_true", help="continue from the newest whole checkpoint there")
    parser.add_argument("--amp", nargs="?", choices=AMP_CHOICES, const="bf16",
                        help="bfloat16 mixed precision: auto where it is faster, bf16 (or no word) always, off never; "
                             "default: the config's")  # fmt: skip
    parser.add_argument("--seed", type=int, help="of everything random")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="change the config")
    return parser.parse_args(_with_word_of_amp(sys.argv[1:]))


def _with_word_of_amp(words: list[str]) -> list[str]:
    """Give a bare `--amp` its word, so that argparse does not take the config behind it for one."""
    following = [*words[1:], ""]
    return ["--amp=bf16" if w == "--amp" and n not in AMP_CHOICES else w for w, n in zip(words, following)]


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    with one_line_errors():
        config = read_config(arguments.config, arguments.cfg_options)
        runner = build_runner(
            config,
            work_dir=arguments.work_dir,
            resume=arguments.resume,
            amp=arguments.amp,
            launcher=arguments.launcher,
            seed=arguments.seed,
        )
        runner.train()


if __name__ == "__main__":
    main()
