"""Evaluate a checkpoint on the test data of a config.

python tools/test.py configs/lseg_shapes.py work_dirs/lseg_shapes/best.pth --out metrics.json --show-dir pictures
"""

import openvocab.process.tool_process  # noqa: F401  first: it sets how OpenMP, which torch loads, works

# isort: split
import argparse
from pathlib import Path

from openvocab.config.options import add_config_options


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", nargs="?", help="weights to evaluate; not needed for an untrained model")
    parser.add_argument("--classes-file", help="predict these names, one per line; those of the dataset are evaluated")
    parser.add_argument("--out", help="JSON file for the metrics, the scores per class, units and protocol")
    parser.add_argument("--show-dir", help="folder for a picture of every prediction")
    parser.add_argument("--show-count", type=int, help="number of pictures, the first ones; default: all")
    parser.add_argument("--work-dir", help="folder of logs; default: work_dirs/<config name>")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    add_config_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run the tool."""
    arguments = parse_arguments()
    # imported after the arguments are read, so that --help and a mistyped option need not wait for torch and mmengine
    from mmengine.dist import is_main_process

    from openvocab.command_line import one_line_errors
    from openvocab.config.config import read_config, require_keys
    from openvocab.engine.own_process import own_process
    from openvocab.engine.runner import build_runner
    from openvocab.evaluation import use_class_names, write_results
    from openvocab.metrics.units import with_units

    with one_line_errors():
        config = read_config(arguments.config, arguments.cfg_options)
        require_keys(config, training=False)
        if arguments.checkpoint and not Path(arguments.checkpoint).is_file():
            raise FileNotFoundError(f"no such checkpoint: {arguments.checkpoint}")
        note = None
        if arguments.classes_file:
            note = use_class_names(config, arguments.classes_file, pictures=arguments.show_dir is not None)
        if arguments.show_dir:
            hook = dict(type="PictureHook", folder=arguments.show_dir, count=arguments.show_count)
            config.custom_hooks = [*config.get("custom_hooks", []), hook]
        runner = build_runner(
            config,
            work_dir=arguments.work_dir,
            checkpoint=arguments.checkpoint,
            launcher=arguments.launcher,
            training=False,
        )
        own_process(config)
        runner.require_weights()
        if note:
            runner.logger.info(note)
        metrics = runner.test()
        if is_main_process():
            protocol = runner.test_protocol()
            print(with_units(metrics, protocol["units"]))
            if arguments.out:
                write_results(arguments.out, metrics, protocol, runner.test_class_rows())


if __name__ == "__main__":
    main()
