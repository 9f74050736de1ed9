"""Phrases as single tokens: the row that any text encoder has for a name."""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_number
from openvocab.registry import TEXT_ENCODERS, build_part
from openvocab.structures import TextFeatures, TextTokens
from openvocab.text.base import TextEncoder
from openvocab.text.text_ids import text_ids
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary, same_name_key


@TEXT_ENCODERS.register_module()
class PhraseTextEncoder(TextEncoder):
    """Lets a head that reads phrases token by token use an encoder of whole texts: each phrase is one token.

    The token of a phrase is its row as a class name, with the templates and the cache of the encoder. It knows nothing
    of the other phrases, and of a caption nothing but the phrase: the head's tower has to relate them. In exchange, a
    phrase is embedded as CLIP was trained to embed texts. CLIP's own tokens (`CLIPTextEncoder` alone) are a poor
    classifier: its tower is causal, so that "red" is the same in "red circle" and in "red star", and it was trained on
    texts shorter than a list of names.

    Args:
        encoder: config of a text encoder, or one that is built, such as `CLIPTextEncoder` or `PrecomputedTextEncoder`.
        max_phrases: largest number of phrases of a prompt.

    Raises:
        ValueError: `max_phrases` below 1.

    Reference: none; GLIP (arXiv 2112.03857) reads the words of BERT.
    """

    separator_tokens = 0

    def __init__(self, encoder: Any, max_phrases: int = 256) -> None:
        super().__init__()
        check_number("max_phrases", max_phrases, 1, whole=True)
        self.encoder = build_part(TEXT_ENCODERS, encoder)
        self.embed_dim = self.encoder.embed_dim
        self.token_budget = max_phrases
        self.templates, self.templates_note = self.encoder.templates, self.encoder.templates_note
        self.learns_logit_scale = self.encoder.learns_logit_scale

    def forward(self, texts: Vocabulary | Sequence[str]) -> TextFeatures:
        """Encode classes or captions as the encoder does."""
        return self.encoder(texts)

    def with_tokens(self, texts: Sequence[str] | Sequence[Prompt], first_encoded: int = 0) -> TextFeatures:
        """Encode prompts; T is the largest number of phrases of a prompt.

        Args:
            texts: N prompts.
            first_encoded: 0; there are no words to replace.

        Returns:
            `tokens` with `embed` (N, T, D) and one token per phrase; `embed` has no rows, (0, D).

        Raises:
            ValueError: captions, which have no phrases; or the encoder does not know one of the phrases.
        """
        prompts = [text for text in texts if isinstance(text, Prompt)]
        if first_encoded or not prompts or len(prompts) < len(texts):
            raise ValueError(
                "PhraseTextEncoder reads prompts, whose phrases are its tokens; use CLIPTextEncoder for captions"
            )
        rows = self._rows(prompts)
        counts = torch.tensor([len(prompt) for prompt in prompts], device=rows.device)
        embed = nn.utils.rnn.pad_sequence(list(rows.split(counts.tolist())), batch_first=True)  # (N, T, D)
        is_token = torch.arange(embed.shape[1], device=rows.device) < counts[:, None]  # (N, T)
        ids = [text_ids(prompt.phrase_texts, rows.device) for prompt in prompts]
        tokens = TextTokens(
            ids=nn.utils.rnn.pad_sequence(ids, batch_first=True),
            is_word=is_token,
            is_token=is_token,
            embed=embed,
            states_of=_no_words,
            project=nn.Identity(),
            table=rows.new_zeros(0, self.embed_dim),
            mask_id=0,
            special_ids=(),
            phrases=[
                F.pad(torch.eye(len(prompt), device=rows.device), (0, embed.shape[1] - len(prompt))) > 0
                for prompt in prompts
            ],
            owners=[torch.tensor(prompt.owners, device=rows.device) for prompt in prompts],
        )
        return TextFeatures(rows.new_zeros(0, self.embed_dim), rows.new_ones(()), tokens=tokens)

    def token_count(self, text: str) -> int:
        """Return 1: every phrase is one token."""
        return 1

    def empty_text(self) -> Tensor:
        """See `TextEncoder.empty_text`."""
        return self.encoder.empty_text()

    def clamp_logit_scale(self, maximum: float = 100.0) -> None:
        """See `TextEncoder.clamp_logit_scale`."""
        self.encoder.clamp_logit_scale(maximum)

    def knows(self, synonyms: Sequence[str]) -> bool:
        """See `TextEncoder.knows`."""
        return self.encoder.knows(synonyms)

    def _rows(self, prompts: Sequence[Prompt]) -> Tensor:
        """Return the embedding of each phrase of each prompt (N P, D); equal phrases are encoded once."""
        keys = [same_name_key(text) for prompt in prompts for text in prompt.phrase_texts]
        row_of = {key: row for row, key in enumerate(dict.fromkeys(keys))}
        rows = self.encoder(Vocabulary(tuple((key,) for key in row_of))).embed
        return rows[[row_of[key] for key in keys]]


def _no_words(ids: Tensor) -> NoReturn:
    raise ValueError("PhraseTextEncoder has no words whose states a loss could ask for; use CLIPTextEncoder")
