"""mmengine's log lines, with the units of metrics."""

from typing import Any

from mmengine.runner import LogProcessor, Runner

from openvocab.metrics.base import units_of
from openvocab.metrics.units import with_unit
from openvocab.registry import LOG_PROCESSORS


@LOG_PROCESSORS.register_module(name="LogProcessor")
class UnitLogProcessor(LogProcessor):
    """Log the results of validations and tests with the units that their metrics declare: "mIoU: 33.14 %".

    Losses and times have no unit. Numbers in TensorBoard and in JSON stay bare; the JSON file of a test states the
    units once, as `units`.
    """

    def get_log_after_epoch(
        self, runner: Runner, batch_idx: int, mode: str, with_non_scalar: bool = False
    ) -> tuple[dict[str, Any], str]:
        """Return the numbers after a validation (`mode` "val") or a test ("test"), and the log line that shows them."""
        tag, line = super().get_log_after_epoch(runner, batch_idx, mode, with_non_scalar)
        evaluator = runner.val_evaluator if mode == "val" else runner.test_evaluator
        units = units_of(evaluator.metrics)
        if self.log_with_hierarchy:
            units = {f"{mode}/{name}": unit for name, unit in units.items()}
        units = {name: unit for name, unit in units.items() if name in tag}
        with_units = {name: f"{name}: {with_unit(tag[name], unit)}" for name, unit in units.items()}
        # the parts of mmengine's line are two spaces apart
        line = "  ".join(with_units.get(part.partition(": ")[0], part) for part in line.split("  "))
        return ({**tag, "units": units} if with_non_scalar else tag), line
