"""Tokenization of prompts with the tokenizer of an open_clip model."""

import hashlib
import json
import logging
from collections.abc import Sequence
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor

from openvocab.checkpoint.hub import can_reach_hub
from openvocab.clip.open_clip_model import clip_config
from openvocab.missing_file import MissingFile

logger = logging.getLogger(__name__)

PROBE = "A photo of: 12 cafés_(small), naïve &amp; rock'n'roll!?"
"""Contains case, accents, entities, digits and punctuation, so that tokenizers with different cleaning differ on it."""


class PromptTokenizer:
    """The tokenizer of one model, built on first use; CLIP's own is built once and shared.

    Args:
        model: name of an open_clip model; models without their own tokenizer use CLIP's byte-pair encoding.
        context_length: maximum number of tokens per prompt, start and end included.
        folder: a local copy of the tokenizer's files; default: from Hugging Face's hub or its cache. CLIP's own
            tokenizer needs none.
    """

    def __init__(self, model: str, context_length: int, folder: str | Path | None = None) -> None:
        self.model = model
        self.context_length = context_length
        self.folder = folder

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return token ids (N, context_length) and lengths (N,), both int64.

        A prompt that is too long is cut, with a warning that quotes its beginning.
        """
        tokens = self._tokenizer(list(prompts), context_length=self.context_length)
        # Up to the last token that is not padding: the padding id may also occur inside a prompt.
        # argmax finds the first maximum: in reversed order, the last token that is not padding.
        lengths = tokens.shape[1] - (tokens.flip(1) != _padding_id(self._tokenizer)).int().argmax(1)
        self._warn_if_cut([prompts[i] for i in torch.nonzero(lengths == self.context_length).flatten().tolist()])
        return tokens, lengths

    def token_count(self, text: str) -> int:
        """Return the number of tokens of a text, without start and end."""
        return _token_count(self._tokenizer, text) - 2

    def word_ids(self, text: str) -> list[int]:
        """Return the token ids of a text, without start and end.

        Raises:
            ValueError: the tokenizer is not CLIP's byte-pair encoding.
        """
        if not isinstance(self._tokenizer, SimpleTokenizer):
            raise ValueError(
                f"the tokenizer of {self.model!r} does not say which tokens belong to a phrase; use a tower with "
                "CLIP's byte-pair encoding, or BERTTextEncoder"
            )
        return self._tokenizer.encode(text)

    @cached_property
    def identity(self) -> str:
        """Hexadecimal digest of what the token ids depend on: class, vocabulary, cleaning and context length."""
        probe = self._tokenizer([PROBE], context_length=self.context_length).tolist()
        content = [_vocabulary_digest(self._tokenizer), probe, self.context_length]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    @property
    def padding_id(self) -> int:
        """Id of the token that fills a prompt up to the context length."""
        return _padding_id(self._tokenizer)

    @property
    def mask_id(self) -> int:
        """Id of a token that no text contains: the vocabulary's mask token, or the byte 0, which cleaning removes.

        Raises:
            ValueError: the vocabulary has neither.
        """
        if isinstance(self._tokenizer, SimpleTokenizer):
            return self._tokenizer.encoder[self._tokenizer.byte_encoder[0]]
        mask_id = self._tokenizer.tokenizer.mask_token_id
        if mask_id is None:
            raise ValueError(f"the tokenizer of {self.model!r} has no mask token; masked language modeling needs one")
        return mask_id

    @property
    def _tokenizer(self) -> Any:
        config = clip_config(self.model)["text_cfg"]
        if "hf_tokenizer_name" not in config and "tokenizer_kwargs" not in config:
            return _byte_pair_tokenizer()
        return _named_tokenizer(self.model, None if self.folder is None else str(self.folder))

    def _warn_if_cut(self, full_prompts: Sequence[str]) -> None:
        for prompt in full_prompts:
            count = _token_count(self._tokenizer, prompt)
            if count > self.context_length:
                message = f"a prompt of {count} tokens was cut to {self.context_length}; it begins {prompt[:60]!r}"
                logger.warning(message)


def _padding_id(tokenizer: Any) -> int:
    return 0 if isinstance(tokenizer, SimpleTokenizer) else tokenizer.tokenizer.pad_token_id


def _token_count(tokenizer: Any, prompt: str) -> int:
    """Count the tokens of a whole prompt, start and end included."""
    if isinstance(tokenizer, SimpleTokenizer):
        return len(tokenizer.encode(prompt)) + 2
    return len(tokenizer.tokenizer(prompt).input_ids)


@cache
def _byte_pair_tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()


@cache
def _named_tokenizer(model: str, folder: str | None) -> HFTokenizer:
    """Return the tokenizer that a model names, from a folder or from the hub.

    Raises:
        FileNotFoundError: its files are not there.
        ImportError: transformers is not installed.
    """
    config = clip_config(model)["text_cfg"]
    name = config.get("hf_tokenizer_name")
    if name is None:  # CLIP's vocabulary with other cleaning
        return open_clip.get_tokenizer(model)
    if find_spec("transformers") is None:
        raise ImportError(f"the tokenizer of {model!r} is one of transformers; pip install 'openvocab[hf]'")
    # else a network that is not there would be asked again and again, for minutes
    cached = dict(local_files_only=folder is not None or not can_reach_hub())
    try:
        return HFTokenizer(folder or name, **config.get("tokenizer_kwargs", {}), **cached)
    except (OSError, ValueError, TypeError) as error:  # what transformers raises where a file is missing
        where = f"complete in {folder!r}" if folder else "on this machine, and could not be downloaded"
        raise MissingFile(
            f"the tokenizer of {model!r} is not {where}; it consists of tokenizer.json and tokenizer_config.json of "
            f"{name} on Hugging Face's hub",
            "text_folder=FOLDER",
        ) from error


@cache
def _vocabulary_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of class and vocabulary, which open_clip's two kinds of tokenizer name differently."""
    vocabulary = tokenizer.encoder if isinstance(tokenizer, SimpleTokenizer) else tokenizer.tokenizer.get_vocab()
    content = [type(tokenizer).__qualname__, sorted(vocabulary.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
