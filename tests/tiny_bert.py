"""Folders of a tokenizer and of a BERT for tests, as transformers saves them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openvocab.text.bert import BERTTextEncoder

WORDS = (
    "a an the in and . , - ' ! ( ) traffic light stop sign dog cat hair dr ##ier ##s red coat woman walks two small "
    "dogs cafe person bicycle 3 mp ##3 d 猫 犬 שלום כלב naive"
).split()
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CONFIG = dict(
    vocab_size=len(SPECIAL) + len(WORDS), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=48, max_position_embeddings=64,
)  # fmt: skip


def tokenizer_folder(folder: Path) -> Path:
    """Write a vocabulary of a few words to a folder."""
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL, *WORDS]) + "\n", encoding="utf-8")
    return folder


def numbered_vocabulary(folder: Path, ids: Mapping[str, int], size: int) -> Path:
    """Write a vocabulary with a few words at their numbers to a folder."""
    lines = [f"[unused{index}]" for index in range(size)]
    for word, index in ids.items():
        lines[index] = word
    (folder / "vocab.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_encoder(folder: Path, **options) -> BERTTextEncoder:
    return BERTTextEncoder(config=CONFIG, tokenizer=tokenizer_folder(folder), **(dict(max_tokens=64) | options))


def save_bert(folder: Path) -> Any:
    """Save a BERT of transformers with random weights and its tokenizer to a folder, and return it."""
    import transformers  # not installed with the oldest versions, whose tests read this module, too

    network = transformers.BertModel(transformers.BertConfig(**CONFIG)).eval()
    network.save_pretrained(tokenizer_folder(folder))
    return network
