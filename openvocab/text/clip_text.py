"""The text tower of any open_clip model as a text encoder, with a cache while it is frozen."""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from open_clip.transformer import TextTransformer
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.clip.open_clip_model import create_text_side, sees_later_words, text_context
from openvocab.layers.projector import ProjectMLP
from openvocab.layers.trainability import Trainable, set_trainable
from openvocab.process.matmul_precision import matmul_precision
from openvocab.process.memory_fallback import Halving
from openvocab.registry import TEXT_ENCODERS
from openvocab.structures import TextFeatures, known
from openvocab.text.base import TextEncoder
from openvocab.text.caption_tokens import encode_captions
from openvocab.text.embedding_cache import EmbeddingCache
from openvocab.text.phrase_tokens import check_budget, mark_phrases, phrases_by_pieces
from openvocab.text.prompt_tokenizer import PromptTokenizer
from openvocab.text.recent_texts import RecentTexts
from openvocab.text.templates import fill_template, resolve_templates
from openvocab.text.text_tower import encode_states, encode_tokens, tower_digest, weights_version
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

Average = Literal["names", "prompts"]
DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
PROMPTS_AT_ONCE = 65_536
"""Prompts that are sorted by length together: enough for full batches of every length, at 128 MB for D = 512."""
RECENT_CLASSIFIERS = 8
"""Classifiers (rows of a whole vocabulary) that are kept in memory."""
RECENT_PROMPTS = 4
"""Lists of prompts whose tokens are kept in memory."""


@TEXT_ENCODERS.register_module()
class CLIPTextEncoder(TextEncoder):
    """Encodes class names in prompt templates, or raw captions, with an open_clip text tower.

    Four settings determine the embedding of a class, and published methods differ in all of them: the templates, the
    norm of each prompt, the average, and the final norm. CLIP on ImageNet: `imagenet80` and the defaults. LSeg: `lseg`.
    GroupViT: `simple`; on ImageNet `imagenet7` with `normalize_templates=False`. ViLD: `vild63`.

    A frozen encoder (`trainable="none"`) stays in eval mode, computes no gradients, and encodes each name once: rows
    are cached in memory and in `cache_dir` under a digest of weights, tokenizer, templates and numerics. A trained one
    caches nothing. Raw captions are never cached.

    Args:
        model: name of an open_clip architecture or of a file in `model_configs`.
        pretrained: None (random weights), an open_clip tag, or a local file; see `create_clip`.
        templates: a named set or a list of sentences; see `resolve_templates`.
        normalize_templates: give every prompt's embedding unit norm before the average over templates.
        average: how the names of a class are averaged: `names`, the mean of one row per name, after its final norm;
            `prompts`, one mean over all prompts of all names. With the vocabulary's `synonym_merge="max"` they are not
            averaged.
        final_norm: give the rows of classes and captions unit norm. Without it, the norm of a row reflects how well the
            prompts of the class agree, and `TextFeatures.embed` is not unit norm.
        projector: (hidden width, D) of a `ProjectMLP` after the tower, as in GroupViT; default: none.
        trainable: `none`, `attention`, `all`, or the number of last blocks; `logit_scale` is trained unless `none`.
        cache_dir: folder where embeddings are kept between runs.
        batch_size: prompts per forward pass.
        dtype: `float32`, `bfloat16` or `float16` (autocast, with rows in float32).
        text_folder: a local copy of the files that the tokenizer (SigLIP, CLIPA) or the text model (XLM-R, NLLB) of
            some architectures needs from Hugging Face's hub; default: from the hub or its cache. An error names them.

    Raises:
        ValueError: the model, template set, trainable, average or dtype is unknown.

    Reference:
        Learning Transferable Visual Models From Natural Language Supervision, arXiv 2103.00020.
    """

    learns_logit_scale = True
    templates: tuple[str, ...]
    token_budget: int

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        *,
        templates: str | Sequence[str] = "simple",
        normalize_templates: bool = True,
        average: Average = "names",
        final_norm: bool = True,
        projector: tuple[int, int] | None = None,
        trainable: Trainable = "none",
        cache_dir: str | Path | None = None,
        batch_size: int = 256,
        dtype: str = "float32",
        text_folder: str | Path | None = None,
    ) -> None:
        super().__init__()
        check_choice("average", average, ("names", "prompts"))
        check_choice("dtype", dtype, tuple(DTYPES))
        self.templates = resolve_templates(templates)
        self.normalize_templates = normalize_templates
        self.average = average
        self.final_norm = final_norm
        self.batch_size = batch_size
        self.dtype = dtype
        self._build_tower(model, pretrained, trainable, projector, text_folder)
        self.cache = EmbeddingCache(cache_dir)
        self.names_at_once = Halving("names", limit=max(1, PROMPTS_AT_ONCE // len(self.templates)))
        self._recent: RecentTexts[tuple[Tensor, Tensor | None]] = RecentTexts(RECENT_CLASSIFIERS)
        self._recent_prompts: RecentTexts[TextFeatures] = RecentTexts(RECENT_PROMPTS)
        self._weights: tuple[tuple, str] | None = None  # version and digest of the last hashed weights
        self.train(not self.frozen)

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Encode the classes of a vocabulary (with templates, synonyms, cache) or raw captions (without templates).

        Returns:
            rows (K, D), or (R, D) with `row_class` if synonyms compete; float32, unit norm, on the tower's device.

        Raises:
            ValueError: there are no captions, or one is empty; the message states its index.
        """
        if isinstance(texts, Vocabulary):
            embed, row_class = self._cached_classifier(texts.digest, partial(self._build_classifier, texts))
        else:
            with self._numerics():
                embed, row_class = self._final_norm(self.embed(texts)), None
        background = texts.background if isinstance(texts, Vocabulary) else None
        bias = None if self.logit_bias is None else self.logit_bias.reshape(())
        return TextFeatures(embed, self.logit_scale.exp().reshape(()), row_class, background, logit_bias=bias)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings of N raw texts, without templates and cache, (N, D) float32, not normalized.

        Raises:
            ValueError: as in `forward`.
        """
        _check_captions(texts)
        with self._numerics():
            return self._encode_once(texts)

    def with_tokens(self, texts: Sequence[str] | Sequence[Prompt], first_encoded: int = 0) -> TextFeatures:
        """Encode captions or prompts in one batch, pooled as in `forward` and per token; T is that of the longest one.

        In CLIP's causal tower, the tokens of a phrase know only what stands before them in the prompt. While frozen,
        the last few lists of prompts are kept in memory.

        Args:
            texts, first_encoded: see `TextEncoder.with_tokens`.

        Returns:
            `embed` (N - first_encoded, D) float32, unit norm, and `tokens`, (N, T) ids with their embeddings.

        Raises:
            ValueError: as in `forward` and `TextEncoder.with_tokens`, or the tower is not CLIP's transformer, has a
                projector, or reads prompts with another tokenizer than CLIP's.
        """
        prompts = [text for text in texts if isinstance(text, Prompt)]
        if not prompts or len(prompts) < len(texts):
            return self._with_tokens(_captions(texts), first_encoded)

        make = partial(self._of_prompts, prompts, first_encoded)
        if not self.frozen:
            return make()
        key = (self._content_key(), tuple(prompts), first_encoded, self.logit_scale.device)
        return self._recent_prompts.find(key, make)

    def token_count(self, text: str) -> int:
        """Return the number of tokens of a text, without start and end."""
        return self._tokenizer.token_count(text)

    def _of_prompts(self, prompts: Sequence[Prompt], first_encoded: int) -> TextFeatures:
        phrases = [phrases_by_pieces(prompt, self._tokenizer.word_ids) for prompt in prompts]
        for prompt, masks in zip(prompts, phrases):
            check_budget(prompt, masks, self.token_budget)
        text = self._with_tokens([prompt.text for prompt in prompts], first_encoded)
        return replace(text, tokens=mark_phrases(known(text.tokens, "tokens"), prompts, phrases))

    def _with_tokens(self, captions: Sequence[str], first_encoded: int) -> TextFeatures:
        if self.has_projector:
            raise ValueError("a tower with a projector has no token outputs: the projector is trained on pooled texts")
        ids, lengths = self._tokenizer(captions)
        with self._numerics():
            embed, tokens = encode_captions(self.text, ids, lengths, self._tokenizer, self._states_of, first_encoded)
        return TextFeatures(F.normalize(embed, dim=-1), self.logit_scale.exp().reshape(()), tokens=tokens)

    def empty_text(self) -> Tensor:
        """Return the unit-norm embedding (D,) of the empty text; cached while frozen."""
        return self._cached_classifier("", self._empty_row)[0][0]

    def _empty_row(self) -> tuple[Tensor, None]:
        with self._numerics():
            return F.normalize(self._encode([""]), dim=-1), None

    def _states_of(self, ids: Tensor) -> Tensor:
        """Return the last states (B, T, C) of token ids (B, T)."""
        with self._numerics():
            return encode_states(self.text, ids)

    def train(self, mode: bool = True) -> "CLIPTextEncoder":
        """Switch mode; a frozen tower stays in eval mode."""
        self._weights = None  # at a change of mode, averaging may swap weights, unseen by autograd
        return super().train(mode and not self.frozen)

    @torch.no_grad()
    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """Clamp the multiplier of the cosines to [1, maximum]."""
        self.logit_scale.clamp_(0.0, torch.tensor(maximum).log().item())

    def _build_tower(
        self,
        model: str,
        pretrained: str | None,
        trainable: Trainable,
        projector: tuple[int, int] | None,
        text_folder: str | Path | None,
    ) -> None:
        clip = create_text_side(model, pretrained, text_folder)
        self.bidirectional = sees_later_words(model)
        self.text = clip.text
        self.logit_scale = clip.logit_scale
        self.logit_bias = clip.logit_bias  # a weight only of towers that were trained with a sigmoid per pair
        self.embed_dim = _output_width(self.text)
        if projector is not None:
            self.text.projector = ProjectMLP(self.embed_dim, *projector)  # inside the tower, so its digest covers both
            self.embed_dim = projector[1]
        self.has_projector = projector is not None
        self.frozen = trainable == "none"
        blocks = self.text.transformer.resblocks if isinstance(self.text, TextTransformer) else []
        set_trainable(self.text, blocks, trainable, tail=("ln_final", "text_projection", "projector"))
        self.logit_scale.requires_grad_(not self.frozen)
        if self.logit_bias is not None:
            self.logit_bias.requires_grad_(False)  # no loss uses it
        # a text model of transformers may take 512 tokens, but was trained on 77
        context = self.text.context_length
        context = context if isinstance(self.text, TextTransformer) else text_context(model)
        self._tokenizer = PromptTokenizer(model, context, text_folder)
        self.token_budget = context - 2  # without start and end

    def _cached_classifier(
        self, digest: str, make: Callable[[], tuple[Tensor, Tensor | None]]
    ) -> tuple[Tensor, Tensor | None]:
        """Return the rows and row classes for a digest from memory, or from `make`, which fills the memory.

        The rows are a copy, so that callers may change them. A trained tower caches nothing.
        """
        if not self.frozen:
            return make()
        key = (self._content_key(), digest, self.logit_scale.device)
        embed, row_class = self._recent.find(key, make)
        return embed.clone(), row_class

    def _build_classifier(self, vocabulary: Vocabulary) -> tuple[Tensor, Tensor | None]:
        """Build one row per class (K, D), or one per name (R, D) with the class of each (R,)."""
        names = [name for synonyms in vocabulary.synonyms for name in synonyms]
        rows = self._name_rows(names)  # (R, D)
        if len(names) == len(vocabulary):
            return self._final_norm(rows), None
        counts = [len(synonyms) for synonyms in vocabulary.synonyms]  # rows of a class are adjacent
        if vocabulary.synonym_merge == "max":
            row_class = torch.arange(len(counts), device=rows.device).repeat_interleave(rows.new_tensor(counts).long())
            return self._final_norm(rows), row_class
        # Without this norm, the mean of means is one mean over all prompts: names have equally many.
        if self.average == "names":
            rows = self._final_norm(rows)
        return self._final_norm(torch.stack([group.mean(0) for group in rows.split(counts)])), None

    def _final_norm(self, rows: Tensor) -> Tensor:
        return F.normalize(rows, dim=-1) if self.final_norm else rows

    def _name_rows(self, names: Sequence[str]) -> Tensor:
        """Return the means over the templates (R, D), before the final norm, from the cache where possible."""
        if not self.frozen:
            return self._encode_names(names)
        key = self._content_key()
        rows = self.cache.find(key, names)
        missing = [name for name in dict.fromkeys(names) if name not in rows]

        def add(start: int, stop: int) -> None:
            block = missing[start:stop]
            new = dict(zip(block, self._encode_names(block).cpu()))
            self.cache.add(key, new)  # block by block, so that an interrupted run keeps its progress
            rows.update(new)

        if missing:
            self.names_at_once.run(add, len(missing))
        # A name that occurs in several classes was encoded once.
        return torch.stack([rows[name] for name in names]).to(self.logit_scale.device)

    def _encode_names(self, names: Sequence[str]) -> Tensor:
        """Encode every name in every template; return the means over the templates (R, D)."""
        prompts = [fill_template(template, name) for name in names for template in self.templates]
        with self._numerics():
            embed = self._encode(prompts)
        if self.normalize_templates:
            embed = F.normalize(embed, dim=-1)
        return torch.stack([group.mean(0) for group in embed.split(len(self.templates))])  # (R, D)

    def _encode_once(self, texts: Sequence[str]) -> Tensor:
        """Return the embeddings (N, D) of texts, equal ones (such as the noun prompts of a batch) encoded once.

        A projector gets all N rows, since the statistics of its batch norm count a text as often as it occurs.
        """
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        rows = self._pooled(list(row_of))
        if len(row_of) < len(texts):
            rows = rows[torch.tensor([row_of[text] for text in texts], device=rows.device)]
        return self._projected(rows)

    def _encode(self, prompts: Sequence[str]) -> Tensor:
        """Return the embeddings (N, D) float32 of prompts, not normalized."""
        return self._projected(self._pooled(prompts))

    def _pooled(self, prompts: Sequence[str]) -> Tensor:
        """Return the output (N, C) of the tower for prompts."""
        tokens, lengths = self._tokenizer(prompts)
        return encode_tokens(self.text, tokens, lengths, self.batch_size, exact_lengths=self.frozen)

    def _projected(self, embed: Tensor) -> Tensor:
        # float32 whatever the tower computes in: rows are averaged, normalized and cached.
        return (self.text.projector(embed) if self.has_projector else embed).float()

    @contextmanager
    def _numerics(self) -> Iterator[None]:
        """Set the precision while frozen, since cached rows must not depend on the caller's; else keep it."""
        with ExitStack() as stack:
            if self.frozen:
                stack.enter_context(torch.no_grad())
            stack.enter_context(self._autocast())
            yield

    def _autocast(self) -> AbstractContextManager:
        dtype = DTYPES[self.dtype]
        device = self.logit_scale.device.type
        if dtype is not None:
            return torch.autocast(device, dtype)
        return torch.autocast(device, enabled=False) if self.frozen else nullcontext()

    def _content_key(self) -> str:
        """Return the digest of everything that the row of a name depends on, apart from the name."""
        version = weights_version(self.text)
        if self._weights is None or self._weights[0] != version:
            self._weights = version, self._new_identity()
        device = self.logit_scale.device.type
        precision = [self.dtype, device, matmul_precision(device)]
        content = [self._weights[1], self.templates, self.normalize_templates, precision]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def _new_identity(self) -> str:
        """Return what tells the present tower and tokenizer from others.

        On disk, that is the digest of all they contain, which takes as long as the first prediction. In memory, it is a
        name that was never used before.
        """
        if self.cache.folder is None:
            return secrets.token_hex()
        return f"{tower_digest(self.text)} {self._tokenizer.identity}"


def _output_width(tower: Any) -> int:
    """Return D of a text tower of open_clip, which have no common type."""
    if isinstance(tower, TextTransformer) and tower.text_projection is None:
        return tower.width
    return tower.output_dim


def _captions(texts: Sequence[str | Prompt]) -> list[str]:
    """Return texts that have to be captions; a prompt among them is none."""
    _check_captions(texts)
    return [text for text in texts if isinstance(text, str)]


def _check_captions(texts: Sequence[str | Prompt]) -> None:
    if isinstance(texts, str):
        raise ValueError(f"expected a list of captions or a Vocabulary, got one string {texts!r}; put it in a list")
    if not texts:
        raise ValueError("expected at least one caption, got an empty list")
    for index, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"caption {index}: expected a non-empty string, got {text!r}")
