"""Report at the end of training which samples were replaced or skipped."""

import logging

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.datasets.contracts import CountsBadSamples
from openvocab.registry import HOOKS


@HOOKS.register_module()
class BadSampleHook(Hook):
    """Log, after training, the samples that `bad_samples="skip"` replaced and those that a stream skipped.

    A stream counts all of them, but remembers the paths of the first ones only.
    """

    def after_train(self, runner: Runner) -> None:
        """List the bad samples of all ranks."""
        dataset = runner.train_dataloader.dataset
        counts_bad = isinstance(dataset, CountsBadSamples)
        count_and_paths = (dataset.bad_sample_count, list(dataset.bad_sample_paths)) if counts_bad else (0, [])
        by_rank = all_gather_object(count_and_paths)
        count = sum(rank_count for rank_count, _ in by_rank)
        if count:
            listed = "\n  ".join(dict.fromkeys(path for _, paths in by_rank for path in paths))
            runner.logger.log(logging.WARNING, "%d bad samples were replaced or skipped:\n  %s", count, listed)
