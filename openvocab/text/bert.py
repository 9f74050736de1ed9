"""BERT as a text encoder for heads that read phrases token by token."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from openvocab.checkpoint.checkpoint import load_state_dict
from openvocab.checkpoint.hub import hub_file
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.checkpoint.weights_file import HUB_PREFIX, weights_file
from openvocab.converters.bert import bert_tower
from openvocab.files.text_files import read_json
from openvocab.layers.trainability import Trainable, set_mode, set_trainable
from openvocab.registry import TEXT_ENCODERS
from openvocab.structures import TextFeatures, TextTokens
from openvocab.text.base import TextEncoder
from openvocab.text.phrase_tokens import check_budget, mark_phrases, phrases_by_offsets
from openvocab.text.recent_texts import RecentTexts
from openvocab.text.text_tower import weights_version
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary

ENDS = 2
"""The tokens [CLS] and [SEP] of each text."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")
RECENT_TEXTS = 4
"""Lists of texts whose tokens are kept in memory: 24 MB for LVIS's 1203 names."""


@TEXT_ENCODERS.register_module()
class BERTTextEncoder(TextEncoder):
    """Encodes captions and prompts token by token with BERT; it has no embedding of a whole text.

    The tokens of a text are its last hidden states. They do not depend on the padding, so that texts are cut to the
    longest one, and not filled up to `max_tokens` as in official GLIP: the results are equal.

    A frozen encoder (`trainable="none"`) stays in eval mode and computes in float32, without gradients. In prediction,
    and always while frozen, the tokens of the last few lists of texts are kept in memory.

    Args:
        pretrained: a folder that transformers saved (`config.json`, weights, tokenizer), or `hf-hub:OWNER/NAME`, such
            as `hf-hub:google-bert/bert-base-uncased`; None for random weights.
        config: values of transformers' `BertConfig`, if `pretrained` is None; default: those of BERT-base.
        tokenizer: a folder with `tokenizer.json` or `vocab.txt`; default: `pretrained`.
        max_tokens: tokens of a text that are read, [CLS] and [SEP] included.
        trainable: `none`, `all`, or the number of last layers.
        batch_size: texts per forward pass.

    Raises:
        ImportError: transformers is not installed.
        FileNotFoundError: a file is missing, or the hub cannot be reached.
        ValueError: no tokenizer is given, `config` next to `pretrained`, the weights do not fit, or more tokens than
            the network has positions.

    Reference:
        BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, arXiv 1810.04805.
    """

    bidirectional = True
    token_budget: int

    def __init__(
        self,
        pretrained: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        tokenizer: str | Path | None = None,
        max_tokens: int = 256,
        trainable: Trainable = "none",
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        if find_spec("transformers") is None:
            raise ImportError("BERTTextEncoder needs transformers; pip install 'openvocab[hf]'")
        if pretrained is not None and config is not None:
            raise ValueError("config: the weights in `pretrained` state their own; give one of the two")
        self.bert = _network(pretrained, config)
        self.tokenizer = _tokenizer(pretrained if tokenizer is None else tokenizer)
        if len(self.tokenizer) > self.bert.config.vocab_size:
            raise ValueError(
                f"the tokenizer has {len(self.tokenizer)} tokens and the network {self.bert.config.vocab_size}"
            )
        longest = self.bert.config.max_position_embeddings
        if not ENDS < max_tokens <= longest:
            raise ValueError(f"max_tokens: expected {ENDS + 1} to {longest}, got {max_tokens}")
        self.embed_dim = self.bert.config.hidden_size
        self.token_budget = max_tokens - ENDS
        self.batch_size = batch_size
        self.frozen = trainable == "none"
        set_trainable(self.bert, self.bert.encoder.layer, trainable)
        self._recent: RecentTexts[TextFeatures] = RecentTexts(RECENT_TEXTS)
        self.train(not self.frozen)

    def forward(self, texts: Vocabulary | Sequence[str]) -> NoReturn:
        """Raise `ValueError`: BERT's tokens are not merged into one embedding that anything was trained with."""
        raise ValueError(
            "BERTTextEncoder has no embedding of a whole text; use a head that reads phrases, or CLIPTextEncoder"
        )

    def with_tokens(self, texts: Sequence[str] | Sequence[Prompt], first_encoded: int = 0) -> TextFeatures:
        """Encode captions or prompts token by token; captions are cut to `max_tokens`.

        Args:
            texts, first_encoded: see `TextEncoder.with_tokens`.

        Returns:
            `tokens` with `ids` (N, T) and `embed` (N - first_encoded, T, C) float32, the last hidden states; `embed`
            has no rows (0, C).

        Raises:
            ValueError: as in `TextEncoder.with_tokens`, there are no texts, or one is empty.
        """
        _check_kind(texts)
        make = partial(self._features, tuple(texts), first_encoded)
        if not self.frozen and (self.training or torch.is_grad_enabled()):
            return make()
        device = self._table.device
        precision = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type)
        key = (weights_version(self.bert), tuple(texts), first_encoded, device, precision)
        return self._recent.find(key, make)

    def token_count(self, text: str) -> int:
        """Return the number of tokens of a text, without [CLS] and [SEP]."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def train(self, mode: bool = True) -> "BERTTextEncoder":
        """Switch mode; frozen layers stay in eval mode."""
        self._recent.clear()  # at a change of mode, averaging may swap weights, unseen by autograd
        self.training = mode and not self.frozen
        set_mode(self.bert, self.training)
        return self

    @property
    def _table(self) -> Tensor:
        """(V, C) token embeddings."""
        return self.bert.embeddings.word_embeddings.weight

    def _features(self, texts: Sequence[str | Prompt], first_encoded: int) -> TextFeatures:
        prompts = [text for text in texts if isinstance(text, Prompt)]
        encodings = [self._encode(text.text if isinstance(text, Prompt) else text) for text in texts]
        phrases = [self._phrases(prompt, encoding) for prompt, encoding in zip(prompts, encodings)]
        tokens = self._tokens([encoding["input_ids"][1:-1] for encoding in encodings], first_encoded)
        if prompts:
            tokens = mark_phrases(tokens, prompts, phrases)
        return TextFeatures(self._table.new_zeros(0, self.embed_dim), self._table.new_ones(()), tokens=tokens)

    def _encode(self, text: str) -> Any:
        """Return the result of the tokenizer, [CLS] and [SEP] included."""
        encoding = self.tokenizer(text, return_offsets_mapping=True)
        if len(encoding["input_ids"]) == ENDS:
            raise ValueError(f"the tokenizer knows none of the characters of the text {text[:80]!r}")
        return encoding

    def _phrases(self, prompt: Prompt, encoding: Any) -> Tensor:
        """Return the tokens (P, T) of phrases, without [CLS] and [SEP]."""
        phrases = phrases_by_offsets(prompt, encoding["offset_mapping"][1:-1], encoding.word_ids()[1:-1])
        check_budget(prompt, phrases, self.token_budget)
        return phrases

    def _tokens(self, contents: Sequence[Sequence[int]], first_encoded: int) -> TextTokens:
        """Encode the token ids of N texts, which are without [CLS] and [SEP]."""
        start, end, padding = (getattr(self.tokenizer, f"{name}_token_id") for name in ("cls", "sep", "pad"))
        rows = [torch.tensor([start, *content[: self.token_budget], end]) for content in contents]
        ids = pad_sequence(rows, batch_first=True, padding_value=padding).to(self._table.device)  # (N, T)
        ends = torch.tensor([len(row) - 1 for row in rows], device=ids.device)[:, None]  # (N, 1)
        position = torch.arange(ids.shape[1], device=ids.device)
        is_token = position <= ends  # (N, T)
        return TextTokens(
            ids=ids,
            is_word=(position > 0) & (position < ends),
            is_token=is_token,
            embed=self._states(ids[first_encoded:], is_token[first_encoded:]),
            # of other ids of the same texts, whose padding is where it was
            states_of=lambda other: self._states(other, other != padding),
            project=nn.Identity(),
            table=self._table,
            mask_id=self.tokenizer.mask_token_id,
            special_ids=tuple(sorted(self.tokenizer.all_special_ids)),
        )

    def _states(self, ids: Tensor, is_token: Tensor) -> Tensor:
        """Return the last hidden states (N, T, C) of token ids (N, T)."""
        with ExitStack() as stack:
            if self.frozen:
                stack.enter_context(torch.no_grad())
                stack.enter_context(torch.autocast(ids.device.type, enabled=False))
            parts = zip(ids.split(self.batch_size), is_token.split(self.batch_size))
            states = [self.bert(input_ids=part, attention_mask=mask.long()).last_hidden_state for part, mask in parts]
        return torch.cat(states)


def _check_kind(texts: Sequence[str | Prompt]) -> None:
    if isinstance(texts, str):
        raise ValueError(f"expected a list of texts, got one string {texts!r}; put it in a list")
    if not texts:
        raise ValueError("expected at least one text, got an empty list")
    if len({isinstance(text, Prompt) for text in texts}) > 1:
        raise ValueError("expected captions or prompts, not both")


def _network(pretrained: str | Path | None, values: Mapping[str, Any] | None) -> Any:
    """Build BERT without its pooler, as float32, with its weights unless a checkpoint follows."""
    import transformers

    if pretrained is not None:
        path = _file(pretrained, ("config.json",))
        values = read_json(path)
        if not isinstance(values, dict) or values.get("model_type", "bert") != "bert":
            raise ValueError(f"{path}: expected the config of a BERT, with model_type 'bert'")
    elif unknown := set(values or {}) - set(transformers.BertConfig().to_dict()):
        raise ValueError(f"config: {min(unknown)!r} is no value of transformers' BertConfig")
    try:
        config = transformers.BertConfig(**values or {})
        network = transformers.BertModel(config, add_pooling_layer=False).float()
    except Exception as error:  # a wrong value raises errors of several types, with several lines
        raise ValueError(f"config of BERT: {' '.join(str(error).split())[:200]}") from error
    if pretrained is not None and reads_start_weights():
        weights = weights_file(pretrained)
        load_strictly(network, bert_tower(load_state_dict(weights)), f"{weights} does not fit its config")
    return network


def _tokenizer(source: str | Path | None) -> Any:
    """Load a tokenizer from a folder or the hub, without code of theirs."""
    import transformers

    if source is None:
        raise ValueError(
            "tokenizer: expected a folder with tokenizer.json or vocab.txt, since no `pretrained` model has one"
        )
    folder = _file(source, TOKENIZER_FILES).parent
    if str(source).startswith(HUB_PREFIX):
        _file(source, ("tokenizer_config.json", *TOKENIZER_FILES))  # says whether case matters
    try:
        tokenizer = transformers.BertTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # damaged files raise errors of many types, also `Exception` itself
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise ValueError(f"{folder} holds no readable tokenizer of BERT ({reason})") from error
    if not tokenizer.is_fast:  # that of transformers 4 does not say which characters belong to a token
        raise ImportError("BERTTextEncoder needs transformers 5 or newer; pip install 'openvocab[hf]'")
    words = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    missing = sorted(set(tokenizer.all_special_tokens) - set(words))  # transformers would number them anew
    if missing:
        raise ValueError(f"the vocabulary in {folder} lacks {', '.join(missing)}")
    return tokenizer


def _file(source: str | Path, names: Sequence[str]) -> Path:
    """Return the first of several files that a folder or a repository of the hub has.

    Raises:
        FileNotFoundError: it has none.
    """
    if str(source).startswith(HUB_PREFIX):
        return hub_file(str(source).removeprefix(HUB_PREFIX), names)
    found = next((Path(source) / name for name in names if (Path(source) / name).is_file()), None)
    if found is None:
        raise FileNotFoundError(f"the folder {source} holds no {' or '.join(names)}")
    return found
