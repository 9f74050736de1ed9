"""The number of tokens of a text, for whoever must know it without the text encoder."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from openvocab.argument_checks import check_paths
from openvocab.checkpoint.hub import hub_file
from openvocab.checkpoint.weights_file import HUB_PREFIX
from openvocab.clip.open_clip_model import clip_config
from openvocab.text.prompt_tokenizer import PromptTokenizer

TOKENIZER_FILES = ("tokenizer.json", "vocab.txt")


class TokenCounter:
    """Count the tokens of texts, without start and end; the tokenizer is loaded on first use, in each process.

    Args:
        tokenizer: a folder with `tokenizer.json` or BERT's `vocab.txt`, `hf-hub:OWNER/NAME`, or the name of an
            open_clip model ("ViT-B-16").

    Raises:
        FileNotFoundError: the folder or the repository has no such file.
        ImportError: transformers is not installed.
        ValueError: neither a folder nor a known model.
    """

    def __init__(self, tokenizer: str | Path) -> None:
        check_paths(tokenizer=tokenizer)
        self.tokenizer = tokenizer
        self._count: Callable[[str], int] | None = None
        self._counted: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Return the number of tokens; that of a text is computed once."""
        if text not in self._counted:
            self._count = self._count or _load(self.tokenizer)
            self._counted[text] = self._count(text)
        return self._counted[text]

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: a loaded tokenizer may not be sent to it."""
        return {**self.__dict__, "_count": None, "_counted": {}}


def _load(tokenizer: str | Path) -> Callable[[str], int]:
    """Return the function that counts."""
    name = str(tokenizer)
    if name.startswith(HUB_PREFIX):
        hub_file(name.removeprefix(HUB_PREFIX), ("tokenizer_config.json",))  # says whether case matters
        return _of_file(hub_file(name.removeprefix(HUB_PREFIX), TOKENIZER_FILES))
    if Path(tokenizer).is_dir():
        found = next((Path(tokenizer) / file for file in TOKENIZER_FILES if (Path(tokenizer) / file).is_file()), None)
        if found is None:
            raise FileNotFoundError(f"tokenizer: the folder {tokenizer} holds no {' or '.join(TOKENIZER_FILES)}")
        return _of_file(found)
    try:
        clip_config(name)
    except ValueError as error:
        raise ValueError(f"tokenizer: {name!r} is neither a folder nor an open_clip model: {error}") from None
    return PromptTokenizer(name, context_length=77).token_count


def _of_file(path: Path) -> Callable[[str], int]:
    """Return a function that counts the tokens of a tokenizer's file; nothing in its folder is executed."""
    if find_spec("transformers") is None:
        raise ImportError(f"the tokenizer in {path.parent} needs transformers; pip install 'openvocab[hf]'")
    if path.name == "vocab.txt":
        import transformers

        words = transformers.BertTokenizer.from_pretrained(path.parent, local_files_only=True)
        return lambda text: len(words(text, add_special_tokens=False)["input_ids"])
    import tokenizers

    loaded = tokenizers.Tokenizer.from_file(str(path))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)
