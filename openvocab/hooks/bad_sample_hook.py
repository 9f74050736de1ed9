"""Say at the end which samples were replaced."""

import logging

from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.registry import HOOKS


@HOOKS.register_module()
class BadSampleHook(Hook):
    """Log the training samples that `bad_samples="skip"` replaced, after training."""

    def after_train(self, runner: Runner) -> None:
        """List them."""
        paths = getattr(runner.train_dataloader.dataset, "bad_sample_paths", [])
        if paths:
            runner.logger.log(logging.WARNING, "%d bad samples were replaced:\n  %s", len(paths), "\n  ".join(paths))
