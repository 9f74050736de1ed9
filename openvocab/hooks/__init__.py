"""Hooks of training and testing; importing this package registers them."""

from openvocab.hooks.bad_sample_hook import BadSampleHook
from openvocab.hooks.checkpoint_hook import CheckpointHook
from openvocab.hooks.clamp_logit_scale import ClampLogitScale
from openvocab.hooks.picture_hook import PictureHook

__all__ = ["BadSampleHook", "CheckpointHook", "ClampLogitScale", "PictureHook"]
