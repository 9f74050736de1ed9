"""Token ids, lengths and the warning about prompts that do not fit."""

from types import SimpleNamespace

import open_clip
import torch

from openvocab.text import prompt_tokenizer
from openvocab.text.prompt_tokenizer import PromptTokenizer


def test_ids_are_open_clips_and_lengths_count_start_and_end():
    prompts = ["cat", "a photo of a cat.", "!", "!a!", "", "hello !!"]
    tokens, lengths = PromptTokenizer("ViT-B-32", 77)(prompts)
    assert torch.equal(tokens, open_clip.get_tokenizer("ViT-B-32")(prompts))
    assert lengths.tolist() == [(row == 49407).nonzero()[0].item() + 1 for row in tokens]


def test_a_prompt_is_cut_with_a_warning_and_one_that_just_fits_is_not(logged):
    tokens, lengths = PromptTokenizer("ViT-B-32", 12)(["cat " * 10, "dog " * 11, "cat"])
    assert lengths.tolist() == [12, 12, 3]
    assert tokens[1, -1] == 49407
    assert len(logged) == 1
    assert "13 tokens was cut to 12; it begins 'dog dog" in logged[0].getMessage()


class HuggingFaceDouble:
    """Behaves as open_clip's wrapper of a Hugging Face tokenizer: pads with 1, ends with 2, one token a word."""

    def __init__(self):
        self.tokenizer = self
        self.pad_token_id = 1

    def get_vocab(self):
        return {"<pad>": 1, "</s>": 2, "word": 3}

    def __call__(self, prompts, context_length=None):
        if isinstance(prompts, str):
            return SimpleNamespace(input_ids=[3] * len(prompts.split()) + [2])
        rows = [([3] * len(prompt.split()))[: context_length - 1] + [2] for prompt in prompts]
        return torch.tensor([row + [1] * (context_length - len(row)) for row in rows])


def test_other_tokenizers_bring_their_own_padding_and_vocabulary(monkeypatch, logged):
    monkeypatch.setattr(prompt_tokenizer, "_named_tokenizer", lambda model, folder: double)
    double = HuggingFaceDouble()
    tokenizer = PromptTokenizer("ViT-B-16-SigLIP", 8)
    _, lengths = tokenizer(["one", "one two three", "w " * 20])
    assert lengths.tolist() == [2, 4, 8]
    assert len(logged) == 1
    assert tokenizer.identity != PromptTokenizer("ViT-B-32", 8).identity


def test_identity_tells_context_lengths_apart_and_names_of_one_tokenizer_not():
    assert PromptTokenizer("ViT-B-32", 77).identity == PromptTokenizer("ViT-B-16", 77).identity
    assert PromptTokenizer("ViT-B-32", 77).identity != PromptTokenizer("ViT-B-32", 64).identity
