"""Heads whose arguments have been grouped are still built from the flat arguments of before 0.2, with equal results."""

import warnings

import pytest
import torch

from openvocab.former_names import ARGUMENTS
from openvocab.registry import HEADS, registered_only
from openvocab.structures import BackboneSpec

SPEC = BackboneSpec(embed_dim=None, stride=16, hidden_dims=(16,) * 5, hidden_strides=(16,) * 5)
FLAT_LSEG = dict(
    type="LSegHead",
    layers=(1, 2),
    factors=(4, 2),
    dims=(8, 12),
    features=20,
    readout="ignore",
    block="depthwise",
    block_depth=2,
    block_activation="tanh",
    logit_scale=9.0,
)
FLAT_GROUPVIT = dict(
    type="GroupViTHead",
    layers=(0, 1),
    width=24,
    depths=(1, 2),
    num_groups=(6, 4),
    num_heads=2,
    mlp_ratio=2.0,
    drop_path=0.2,
    soft_scale=8.0,
    projector_dim=32,
    num_prompts=2,
    multi_label_weight=3.0,
    match="segment",
    positives_by_text=True,
    background_threshold=0.1,
    logit_scale=9.0,
    top_k=None,
    output_stride=2,
)
CASES = (
    (
        FLAT_LSEG,
        dict(
            type="LSegHead",
            layers=(1, 2),
            decoder=dict(factors=(4, 2), dims=(8, 12), features=20, readout="ignore"),
            spatial_block=dict(kind="depthwise", depth=2, activation="tanh"),
            logit_scale=9.0,
        ),
    ),
    (
        FLAT_GROUPVIT,
        dict(
            type="GroupViTHead",
            layers=(0, 1),
            width=24,
            transformer=dict(
                depths=(1, 2), num_groups=(6, 4), num_heads=2, mlp_ratio=2.0, drop_path=0.2, soft_scale=8.0
            ),
            projector_dim=32,
            multi_label=dict(num_prompts=2, weight=3.0, match="segment", positives_by_text=True),
            scoring=dict(background_threshold=0.1, logit_scale=9.0, top_k=None, output_stride=2),
        ),
    ),
)
heads = pytest.mark.parametrize(("flat", "grouped"), CASES, ids=["lseg", "groupvit"])


def build(config: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    return HEADS.build({**config, "backbone": SPEC, "text_dim": 12})


def settings(head: torch.nn.Module) -> dict:
    return {name: value for name, value in vars(head).items() if isinstance(value, (int, float, str, tuple))}


@heads
def test_a_flat_config_builds_the_same_head_with_a_warning(flat, grouped):
    former = ARGUMENTS[flat["type"]]
    assert former.keys() <= flat.keys()  # every one of them is tested
    with pytest.warns(FutureWarning) as warned:
        old = build(flat)
    assert len(warned) == len(former)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = build(grouped)
    assert repr(old) == repr(new) and settings(old) == settings(new)
    then, now = old.state_dict(), new.state_dict()
    assert then.keys() == now.keys() and all(torch.equal(then[key], now[key]) for key in then)


@heads
def test_the_flat_config_of_a_checkpoint_is_read_silently(flat, grouped):
    with warnings.catch_warnings(), registered_only():
        warnings.simplefilter("error")
        assert settings(build(flat)) == settings(build(grouped))


@heads
def test_a_flat_call_in_python_builds_the_same_head_and_is_told_the_grouped_form(flat, grouped):
    kind = HEADS.get(flat["type"])
    with pytest.warns(FutureWarning) as warned:
        head = kind(SPEC, 12, **{name: value for name, value in flat.items() if name != "type"})
    assert settings(head) == settings(build(grouped))
    messages = [str(warning.message) for warning in warned]
    for name, path in ARGUMENTS[flat["type"]].items():
        group, _, key = path.partition(".")
        assert any(f"{name}=... is {group}=dict({key}=...) now" in message for message in messages)


def test_a_flat_config_without_a_block_has_none():
    for change in ({"block": None}, {"block": None, "block_depth": 2}):
        with pytest.warns(FutureWarning, match=r"LSegHead: block=\.\.\. is spatial_block=dict\(kind=\.\.\.\) now"):
            assert build({**FLAT_LSEG, **change}).block is None


def test_a_mistake_within_a_group_is_named():
    with pytest.raises(TypeError, match="scoring: unknown 'topk'; did you mean 'top_k'?"):
        build(dict(type="GroupViTHead", scoring=dict(topk=3)))
    with pytest.raises(TypeError, match="decoder: unknown 'factor'; did you mean 'factors'?"):
        build(dict(type="LSegHead", layers=(1,), decoder=dict(factor=3)))
