"""Say at the end which samples were replaced or skipped."""

import logging

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.datasets.contracts import CountsBadSamples
from openvocab.registry import HOOKS


@HOOKS.register_module()
class BadSampleHook(Hook):
    """Log the training samples that `bad_samples="skip"` replaced and those that a stream skipped, after training.

    A stream counts all of them but remembers the first ones only.
    """

    def after_train(self, runner: Runner) -> None:
        """List those of all ranks."""
        dataset = runner.train_dataloader.dataset
        left_out = (0, [])
        if isinstance(dataset, CountsBadSamples):
            left_out = (dataset.bad_sample_count, list(dataset.bad_sample_paths))
        of_ranks = all_gather_object(left_out)
        count = sum(number for number, _ in of_ranks)
        if count:
            listed = "\n  ".join(dict.fromkeys(path for _, paths in of_ranks for path in paths))
            runner.logger.log(logging.WARNING, "%d bad samples were left out:\n  %s", count, listed)
