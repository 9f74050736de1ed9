"""Evaluate a checkpoint, or a published model, on the test data of a config.

openvocab test lseg_shapes work_dirs/lseg_shapes/best.pth --out metrics.json --show-dir pictures
openvocab test lseg_ade converted.pth --json
openvocab test groupvit-gcc-yfcc --accept-license

The name of a published model (`openvocab models`) stands for its config, its settings and its weights, which are
fetched once. --json prints the metrics, and the protocol by which they were measured.
"""

import argparse

from openvocab.commands.answers import write_answer
from openvocab.commands.parser import offer
from openvocab.config.options import add_config_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    config = parser.add_argument("config", help="config file, or the name of one or of a published model")
    offer(config, "configs", "models")
    parser.add_argument("checkpoint", nargs="?",
                        help="weights to evaluate, also a published folder or hf-hub:OWNER/NAME; "
                             "not needed for an untrained model")  # fmt: skip
    parser.add_argument("--accept-license", action="store_true",
                        help="of a published model whose license restricts commercial use; needed once")  # fmt: skip
    parser.add_argument("--classes-file", help="predict these names, one per line; those of the dataset are evaluated")
    parser.add_argument("--out", help="JSON file for the metrics, the scores per class, units and protocol")
    parser.add_argument("--show-dir", help="folder for a picture of every prediction")
    parser.add_argument("--show-count", type=int, help="number of pictures, the first ones; default: all")
    parser.add_argument("--work-dir", help="folder of logs; default: work_dirs/<config name>")
    parser.add_argument("--launcher", choices=["none", "pytorch"], default="none", help="pytorch: under torchrun")
    add_config_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate."""
    from mmengine.dist import is_main_process

    from openvocab.checkpoint.weights_file import weights_file
    from openvocab.config.config import require_keys
    from openvocab.engine.own_process import own_process
    from openvocab.engine.runner import build_runner
    from openvocab.evaluation import use_class_names, write_results
    from openvocab.metrics.units import with_units
    from openvocab.zoo import prepare_weights, read_named_config

    config, published = read_named_config(arguments.config, arguments.cfg_options)
    require_keys(config, training=False)
    checkpoint = weights_file(arguments.checkpoint) if arguments.checkpoint else None
    if checkpoint is None and published is not None:
        checkpoint = prepare_weights(published, arguments.accept_license)
    if checkpoint is not None and not checkpoint.is_file():
        raise FileNotFoundError(f"no such checkpoint: {checkpoint}")
    note = None
    if arguments.classes_file:
        note = use_class_names(config, arguments.classes_file, pictures=arguments.show_dir is not None)
    if arguments.show_dir:
        hook = dict(type="PictureHook", folder=arguments.show_dir, count=arguments.show_count)
        config.custom_hooks = [*config.get("custom_hooks", []), hook]
    runner = build_runner(
        config,
        work_dir=arguments.work_dir,
        checkpoint=checkpoint,
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
        answer = {"metrics": {key: float(value) for key, value in metrics.items()}, "protocol": protocol}
        write_answer(with_units(metrics, protocol["units"]), answer, arguments.json)
        if arguments.out:
            write_results(arguments.out, metrics, protocol, runner.test_class_rows())
    return 0
