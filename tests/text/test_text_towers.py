"""Text towers of every family that open_clip publishes, narrow, against its own forward; their files offline."""

import json
import time

import pytest
import torch
from local_hub import use_hub
from open_clip.hf_model import HFTextEncoder
from open_clip.transformer import TextTransformer
from torch import nn
from transformers import RobertaConfig

from openvocab.clip import open_clip_model
from openvocab.clip.open_clip_model import clip_config
from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.text_tower import encode_tokens
from openvocab.vocabulary.vocabulary import Vocabulary

CONTEXT, VOCABULARY = 12, 50
FAMILIES = {
    "CLIP": "ViT-B-16",
    "SigLIP": "ViT-B-16-SigLIP",
    "SigLIP 2": "ViT-B-16-SigLIP2",
    "PE-Core": "PE-Core-B-16",
    "EVA02": "EVA02-B-16",
    "ViTamin": "ViTamin-S",
    "MobileCLIP": "MobileCLIP-B",
    "CLIPA": "ViT-L-14-CLIPA",
    "CoCa": "coca_ViT-B-32",
    "MetaCLIP 2": "ViT-H-14-worldwide",
}


def narrow(architecture: dict, part: str = "text_cfg") -> dict:
    """Return a text config of a family with few channels, layers and words."""
    return {
        **architecture[part],
        "width": 24,
        "heads": 2,
        "layers": 2,
        "vocab_size": VOCABULARY,
        "context_length": CONTEXT,
    }


def make_tower(family: str) -> nn.Module:
    """Build a narrow text tower by open_clip's own class."""
    architecture = clip_config(FAMILIES[family])
    small = {
        **architecture,
        "embed_dim": 10,
        "text_cfg": narrow(architecture),
        "vision_cfg": dict(layers=1, width=64, patch_size=32, image_size=32),
    }
    small.pop("multimodal_cfg", None)
    torch.manual_seed(0)
    tower = open_clip_model._build(small).text.eval()
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return tower


def make_tokens(tower: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids of prompts of several lengths, the end token last, and their lengths."""
    end = VOCABULARY - 1 if getattr(tower, "pool_type", "") != "eos" else tower.eos_id
    pad = getattr(tower, "pad_id", 0)
    lengths = torch.tensor([4, 6, 6, 9, CONTEXT, 3])
    tokens = torch.randint(3, VOCABULARY - 1, (6, CONTEXT), generator=torch.Generator().manual_seed(1))
    for row, length in zip(tokens, lengths):
        row[length - 1], row[length:] = end, pad
    return tokens, lengths


@pytest.mark.parametrize("exact_lengths", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_those_of_open_clip(family, exact_lengths):
    tower = make_tower(family)
    assert isinstance(tower, TextTransformer)
    tokens, lengths = make_tokens(tower)
    with torch.no_grad():
        expected = tower(tokens)
        expected = expected[0] if isinstance(expected, tuple) else expected
        rows = encode_tokens(tower, tokens, lengths, 4, exact_lengths)
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_pooler"])
def test_rows_of_a_tower_of_transformers_are_those_of_open_clip(pooler):
    config = RobertaConfig(
        vocab_size=VOCABULARY, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        max_position_embeddings=CONTEXT + 2, pad_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    tower = HFTextEncoder("", 10, config=config, pooler_type=pooler, proj_type="mlp").eval()
    tokens, lengths = make_tokens(tower)
    tokens[tokens == 0] = 1
    with torch.no_grad():
        rows = encode_tokens(tower, tokens, lengths, 4, True)
        torch.testing.assert_close(rows, tower(tokens), atol=1e-5, rtol=1e-5)


def test_the_bias_of_a_sigmoid_is_kept_and_not_trained(monkeypatch, tmp_path):
    write_model(monkeypatch, tmp_path, "Tiny-sigmoid", init_logit_bias=-10)
    encoder = CLIPTextEncoder("Tiny-sigmoid", trainable="all")
    features = encoder(Vocabulary.from_names(["cat", "dog"]))
    assert features.logit_bias.item() == -10 and not features.logit_bias.requires_grad
    assert "logit_bias" in encoder.state_dict()
    assert CLIPTextEncoder("ViT-Ti-8-shapes")(["cat"]).logit_bias is None


# --- files of Hugging Face's hub, offline -----------------------------------------------------------------------------


def write_model(monkeypatch, folder, name: str, **changes) -> None:
    """Make a model of this name known: a tiny CLIP with some settings changed."""
    text = changes.pop("text_cfg", {})
    config = json.loads((open_clip_model.CONFIG_FOLDER / "ViT-Ti-8-shapes.json").read_text())
    config = {**config, **changes, "text_cfg": {**config["text_cfg"], **text}}
    configs = folder / "configs"
    configs.mkdir(exist_ok=True)
    (configs / f"{name}.json").write_text(json.dumps(config))
    for shipped in open_clip_model.CONFIG_FOLDER.glob("*.json"):
        (configs / shipped.name).write_text(shipped.read_text())
    monkeypatch.setattr(open_clip_model, "CONFIG_FOLDER", configs)


@pytest.fixture
def tokenizer_folder(tmp_path):
    """A tokenizer of single words as transformers saves it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "dog", "."]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    folder = tmp_path / "hub copy"
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


def test_a_tokenizer_is_found_in_a_folder(monkeypatch, tmp_path, tokenizer_folder):
    write_model(
        monkeypatch, tmp_path, "Tiny-words", text_cfg=dict(hf_tokenizer_name="someone/words", no_causal_mask=True)
    )
    encoder = CLIPTextEncoder("Tiny-words", text_folder=tokenizer_folder)
    ids, lengths = encoder._tokenizer(["a photo of a cat.", "dog"])
    assert ids[0, : lengths[0]].tolist() == [0, 4, 5, 6, 4, 7, 9, 2]
    assert lengths.tolist() == [8, 3]
    rows = encoder(Vocabulary.from_names(["cat", "dog"])).embed
    assert rows.shape == (2, 128) and rows.isfinite().all()


@pytest.mark.parametrize("missing", ["folder", "tokenizer.json", "nothing given"])
def test_an_error_names_the_files_of_a_tokenizer(monkeypatch, tmp_path, tokenizer_folder, missing):
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    write_model(monkeypatch, tmp_path, "Tiny-words", text_cfg=dict(hf_tokenizer_name="someone/words"))
    folder = {"folder": tmp_path / "not here", "tokenizer.json": tokenizer_folder, "nothing given": None}[missing]
    if missing == "tokenizer.json":
        (tokenizer_folder / missing).unlink()
    encoder = CLIPTextEncoder("Tiny-words", text_folder=folder)
    began = time.monotonic()
    with pytest.raises(FileNotFoundError) as error:
        encoder(Vocabulary.from_names(["cat"]))
    message = str(error.value)
    assert "tokenizer.json and tokenizer_config.json of someone/words" in message and "text_folder=" in message
    assert "\n" not in message and time.monotonic() - began < 5


def test_a_text_model_of_transformers_is_built_from_a_folder(monkeypatch, tmp_path, tokenizer_folder):
    RobertaConfig(
        vocab_size=10, hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40,
        max_position_embeddings=100, pad_token_id=1,
    ).save_pretrained(tokenizer_folder)  # fmt: skip
    text = dict(hf_model_name="someone/roberta", hf_tokenizer_name="someone/roberta", hf_proj_type="mlp")
    write_model(monkeypatch, tmp_path, "Tiny-roberta", text_cfg=dict(text, hf_pooler_type="mean_pooler"))
    encoder = CLIPTextEncoder("Tiny-roberta", text_folder=tokenizer_folder)
    assert encoder(Vocabulary.from_names(["cat", "dog"])).embed.shape == (2, 128)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    with pytest.raises(FileNotFoundError, match="download config.json from .*someone/roberta.*by text_folder="):
        CLIPTextEncoder("Tiny-roberta")
    with pytest.raises(FileNotFoundError, match="config.json of someone/roberta.*which is not in .*absent"):
        CLIPTextEncoder("Tiny-roberta", text_folder=tmp_path / "absent")
