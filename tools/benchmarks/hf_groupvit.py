"""Hugging Face's GroupViT as the peer."""

import torch
from transformers import GroupViTConfig, GroupViTModel, GroupViTTextConfig, GroupViTVisionConfig


def random_peer(size: int, device: str) -> GroupViTModel:
    """Build GroupViT of the official widths for `size` x `size` pixels, with random positions and group tokens."""
    vision, text = GroupViTVisionConfig(image_size=size), GroupViTTextConfig()
    model = GroupViTModel(GroupViTConfig(text_config=text.to_dict(), vision_config=vision.to_dict())).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith(("position_embeddings", "group_token")):
                value.normal_(std=0.02)
    return model.to(device)
