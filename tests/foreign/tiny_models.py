"""Tiny models of transformers with random weights, saved as their publishers save them, with processor."""

import json
from pathlib import Path

import torch
import transformers
from torch import nn

SIDE = 64
CLIP_CONTEXT = 32
NAMES = ["cat", "red sofa", "dog", "tv", "remote"]
"""Their alphabetical order is another one."""


def clip_tokenizer() -> transformers.CLIPTokenizer:
    """CLIP's byte-pair encoding without merges: a token per letter."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["!", *letters[1:], *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CLIP_CONTEXT)


def bert_tokenizer() -> transformers.BertTokenizer:
    """BERT's tokenizer with a few words; those that Grounding DINO knows by number are where it expects them."""
    vocabulary = {f"[unused{index}]": index for index in range(1100)}
    words = ["a", "cat", "red", "sofa", "dog", "tv", "re", "##mote", "picture", "of", "zebra", "##s"]
    places = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "?": 1029}
    places |= {word: 200 + index for index, word in enumerate(words)}
    by_index = {index: word for word, index in vocabulary.items()} | {index: word for word, index in places.items()}
    return transformers.BertTokenizer(vocab={by_index[index]: index for index in range(1100)})


def clip_text(tokens: int) -> dict:
    return dict(
        vocab_size=tokens, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=CLIP_CONTEXT, bos_token_id=tokens - 2, eos_token_id=tokens - 1, pad_token_id=tokens - 1,
    )  # fmt: skip


def vision(**changes) -> dict:
    sizes = dict(hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2)
    return dict(sizes, image_size=SIDE, patch_size=16) | changes


def swin(**changes) -> transformers.SwinConfig:
    return transformers.SwinConfig(
        image_size=SIDE, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2], window_size=4, **changes
    )


def randomize(network: nn.Module) -> None:
    """Draw all weights anew, so that no part of the network is without effect, and nothing saturates."""
    torch.manual_seed(0)
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5
        elif "scale" not in name:
            parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    network.eval()


def owl(version: str) -> transformers.PreTrainedModel:
    config, model = {
        "owlvit": (transformers.OwlViTConfig, transformers.OwlViTForObjectDetection),
        "owlv2": (transformers.Owlv2Config, transformers.Owlv2ForObjectDetection),
    }[version]
    tokens = len(clip_tokenizer())
    return model(config(text_config=clip_text(tokens), vision_config=vision(), projection_dim=32))


def grounding_dino(version: str) -> transformers.PreTrainedModel:
    config, model = {
        "grounding-dino": (transformers.GroundingDinoConfig, transformers.GroundingDinoForObjectDetection),
        "mm-grounding-dino": (transformers.MMGroundingDinoConfig, transformers.MMGroundingDinoForObjectDetection),
    }[version]
    text = transformers.BertConfig(
        vocab_size=1100, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    return model(
        config(
            backbone_config=swin(out_indices=[2, 3, 4]), text_config=text, num_queries=10, d_model=32, max_text_len=40,
            encoder_layers=2, decoder_layers=2, encoder_ffn_dim=48, decoder_ffn_dim=48, encoder_attention_heads=2,
            decoder_attention_heads=2, dropout=0.0,
        )
    )  # fmt: skip


def omdet_turbo() -> transformers.PreTrainedModel:
    tokens = len(clip_tokenizer())
    text = transformers.CLIPTextConfig(**clip_text(tokens) | dict(max_position_embeddings=77, hidden_size=48))
    config = transformers.OmDetTurboConfig(
        backbone_config=swin(out_indices=[2, 3, 4]), text_config=text, image_size=SIDE, num_queries=10,
        text_projection_in_dim=48, text_projection_out_dim=48, class_embed_dim=48, task_encoder_hidden_dim=40,
        encoder_in_channels=[32, 64, 128], encoder_hidden_dim=32, vision_features_channels=[32, 32, 32],
        encoder_dim_feedforward=48, encoder_attention_heads=2, decoder_hidden_dim=32, decoder_num_heads=2,
        decoder_num_layers=2, decoder_dim_feedforward=48, apply_layernorm_after_vision_backbone=False,
    )  # fmt: skip
    return transformers.OmDetTurboForObjectDetection(config)


def clipseg() -> transformers.PreTrainedModel:
    tokens = len(clip_tokenizer())
    config = transformers.CLIPSegConfig(
        text_config=clip_text(tokens), vision_config=vision(), projection_dim=32, extract_layers=[0, 1, 2],
        reduce_dim=16, decoder_num_attention_heads=2, decoder_intermediate_size=24,
    )  # fmt: skip
    return transformers.CLIPSegForImageSegmentation(config)


def group_vit() -> transformers.PreTrainedModel:
    tokens = len(clip_tokenizer())
    config = transformers.GroupViTConfig(
        text_config=clip_text(tokens),
        vision_config=vision(depths=[1, 1, 1], num_group_tokens=[8, 4, 0], num_output_groups=[8, 4, 0], patch_size=8),
        projection_dim=32,
        projection_intermediate_dim=48,
    )
    return transformers.GroupViTModel(config)


@torch.no_grad()
def spread_embeddings(network: transformers.GroupViTModel) -> None:
    """Center what the projections read, so that not all groups get the same name."""
    states = network.vision_model(torch.randn(4, 3, SIDE, SIDE)).last_hidden_state.flatten(0, 1)
    tokens = clip_tokenizer()(NAMES, padding=True, return_tensors="pt")
    for projection, inputs in (
        (network.visual_projection, states),
        (network.text_projection, network.text_model(**tokens).pooler_output),
    ):
        projection[1].momentum = 1.0
        projection.train()(inputs)
        projection.eval()


SQUARE = dict(height=SIDE, width=SIDE)
CLIP_CROP = dict(size=dict(shortest_edge=SIDE), crop_size=SQUARE)


def save(name: str, folder: Path) -> Path:
    """Save a tiny model with its processor, as `Processor.save_pretrained` does."""
    builders = {
        "owlvit": lambda: owl("owlvit"),
        "owlv2": lambda: owl("owlv2"),
        "grounding-dino": lambda: grounding_dino("grounding-dino"),
        "mm-grounding-dino": lambda: grounding_dino("mm-grounding-dino"),
        "omdet-turbo": omdet_turbo,
        "clipseg": clipseg,
        "groupvit": group_vit,
    }
    torch.manual_seed(0)
    network = builders[name]()
    randomize(network)
    if name == "groupvit":
        spread_embeddings(network)
    network.save_pretrained(folder)
    processor(name).save_pretrained(folder)
    assert (folder / "model.safetensors").is_file() and json.loads((folder / "config.json").read_text())
    return folder


def processor(name: str) -> transformers.ProcessorMixin:
    """The processor that transformers has for a model."""
    t = transformers
    edges = dict(size=dict(shortest_edge=96, longest_edge=140))
    return {
        "owlvit": lambda: t.OwlViTProcessor(t.OwlViTImageProcessor(size=SQUARE), clip_tokenizer()),
        "owlv2": lambda: t.Owlv2Processor(t.Owlv2ImageProcessor(size=SQUARE), clip_tokenizer()),
        "grounding-dino": lambda: t.GroundingDinoProcessor(t.GroundingDinoImageProcessor(**edges), bert_tokenizer()),
        "mm-grounding-dino": lambda: t.GroundingDinoProcessor(t.GroundingDinoImageProcessor(**edges), bert_tokenizer()),
        "omdet-turbo": lambda: t.OmDetTurboProcessor(t.DetrImageProcessor(size=SQUARE, do_pad=False), clip_tokenizer()),
        "clipseg": lambda: t.CLIPSegProcessor(t.ViTImageProcessor(size=SQUARE), clip_tokenizer()),
        "groupvit": lambda: t.CLIPProcessor(t.CLIPImageProcessor(**CLIP_CROP), clip_tokenizer()),
    }[name]()
