"""Hooks of training and testing; importing this package registers them."""

from openvocab.engine.hooks.bad_sample_hook import BadSampleHook
from openvocab.engine.hooks.checkpoint_hook import CheckpointHook
from openvocab.engine.hooks.clamp_logit_scale import ClampLogitScale
from openvocab.engine.hooks.picture_hook import PictureHook

__all__ = ["BadSampleHook", "CheckpointHook", "ClampLogitScale", "PictureHook"]
