"""Every tower that open_clip publishes is built, and docs/towers.md lists it."""

import re
from pathlib import Path

import pytest
from open_clip.pretrained import list_pretrained

from openvocab.backbones.readouts import known_readouts
from openvocab.backbones.tower_facts import allows_commercial_use, license_of, published_towers, tower_facts

PAGE = Path(__file__).resolve().parents[2] / "docs" / "towers.md"


@pytest.mark.parametrize("model", published_towers())
def test_every_published_tower_is_built_and_has_a_dense_map(model):
    facts = tower_facts(model)
    assert "clip" in facts.readouts
    assert facts.image_size % facts.stride == 0 or facts.image_size > 370  # 378 is no multiple of 14
    assert facts.image_parameters > 5e6 and facts.licenses


def test_the_page_lists_every_published_tower_with_its_tags():
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| `([^`]+)` \| ([^|]+) \|", line):
            rows.setdefault(match[1], set()).update(match[2].split(", "))
    published: dict[str, set[str]] = {}
    for model, tag in list_pretrained():
        published.setdefault(model, set()).add(tag)
    assert rows == published


@pytest.mark.parametrize(
    ("model", "patch", "width", "dim", "readouts", "millions"),
    [
        ("ViT-B-16", 16, 768, 512, set(known_readouts()), (86, 63)),
        ("RN50", 32, 2048, 1024, {"clip", "value", "maskclip", "sclip", "clearclip", "naclip"}, (38, 63)),
        ("PE-Core-T-16-384", 16, 192, 512, set(known_readouts()) - {"rfclip"}, (6, 63)),
        ("ViTamin-S", 16, 384, 384, {"clip", "value", "maskclip", "sclip", "clearclip", "naclip"}, (22, 40)),
        ("MobileCLIP-S1", 32, 512, 512, {"clip"}, (21, 63)),
    ],
)
def test_facts_of_some_towers(model, patch, width, dim, readouts, millions):
    facts = tower_facts(model)
    assert (facts.stride, facts.width, facts.embed_dim) == (patch, width, dim)
    assert set(facts.readouts) == readouts
    assert (facts.image_parameters // 10**6, (facts.text_parameters or 0) // 10**6) == millions


def test_every_published_weight_has_a_license():
    licenses = {license_of(model, tag) for model, tag in list_pretrained()}
    assert "unknown" not in licenses
    assert license_of("ViTamin-S", "datacomp1b") == "MIT" and license_of("ViT-L-14-CLIPA", "datacomp1b") == "Apache-2.0"
    assert license_of("MobileCLIP-S1", "datacompdr") == "apple-ascl" and license_of("x", "y") == "unknown"
    assert allows_commercial_use("MIT") and not allows_commercial_use("CC-BY-NC-4.0")
    assert not allows_commercial_use("unknown")
