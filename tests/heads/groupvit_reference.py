"""The reference: Hugging Face's GroupViT with random weights, and the same weights in the official layout."""

import sys
from pathlib import Path

import torch
from torch import Tensor
from transformers import GroupViTConfig, GroupViTModel

from openvocab.converters.groupvit import convert
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))  # as running the benchmark does
from benchmarks.hf_groupvit import official_state  # noqa: E402


def reference_model() -> GroupViTModel:
    """Build the official size with weights that make every part count."""
    generator = torch.Generator().manual_seed(0)
    model = GroupViTModel(GroupViTConfig()).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point() or name == "logit_scale":
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(1 + 0.2 * noise.abs())
            elif value.ndim == 1 and name.endswith("weight"):  # norms
                value.copy_(1 + 0.2 * noise)
            else:
                value.copy_(0.05 * noise)
    return model


def official_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename Hugging Face's entries to the official ones; add what the official checkpoints have besides."""
    renamed = {
        key: value[:, :, None] if "_projector." in key and value.ndim == 2 else value  # convolutions of one pixel
        for key, value in official_state(state).items()
    }
    return {"multi_label_logit_scale": torch.tensor(2.0), **renamed}


def build_official(head: str, templates, normalize_templates: bool) -> OpenVocabModel:
    """Build the official network in our parts."""
    texts = dict(templates=templates, normalize_templates=normalize_templates)
    return MODELS.build(
        dict(
            type="OpenVocabModel",
            backbone=dict(type="PatchEmbedding"),
            text_encoder=dict(type="CLIPTextEncoder", model="GroupViT", projector=(4096, 256), **texts),
            head=dict(type=head),
        )
    )


def load_reference(
    reference: GroupViTModel, head: str = "GroupViTHead", templates="simple", normalize_templates: bool = True
) -> OpenVocabModel:
    """Give the official network the reference's weights, through the converter."""
    model = build_official(head, templates, normalize_templates)
    model.load_state_dict(convert(official_layout(reference.state_dict())), strict=True)
    return model.eval()
