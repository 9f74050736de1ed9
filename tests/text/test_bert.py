import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from local_hub import use_hub
from tiny_bert import CONFIG, make_encoder, numbered_vocabulary, save_bert, tokenizer_folder

from openvocab.checkpoint.start_weights import start_weights
from openvocab.converters.bert import GLIP_PREFIX, bert_tower
from openvocab.registry import TEXT_ENCODERS
from openvocab.text.bert import RECENT_TEXTS, BERTTextEncoder
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt

KEYS = Path(os.environ.get("OPENVOCAB_KEYS", Path(__file__).resolve().parents[3] / "shared" / "keys"))
needs_reference = pytest.mark.skipif(
    not (KEYS / "ref_glip.npz").is_file(), reason=f"no reference outputs at {KEYS}; set OPENVOCAB_KEYS"
)
IDS = {
    "[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, "[MASK]": 103, ".": 1012, "traffic": 4026, "light": 2422,
    "stop": 2644, "sign": 3696, "dog": 3899, "a": 1037, "woman": 2450, "in": 1999, "red": 2417, "coat": 5435,
    "walks": 7365, "two": 2048, "small": 2235, "dogs": 6077, "horses": 5194,
}  # fmt: skip
"""Numbers in the vocabulary of bert-base-uncased."""
DETECTION = Prompt("traffic light. stop sign. dog", (((0, 13),), ((15, 24),), ((26, 29),)), (0, 1, 2))
CAPTION = Prompt("a woman in a red coat walks two small dogs", (((0, 7),), ((11, 21),), ((28, 42),)), (0, 1, 2))


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> BERTTextEncoder:
    """BERT-base with the seeded weights of the reference, through the names of an official GLIP."""
    spec = importlib.util.spec_from_file_location("seeded", KEYS / "seeded.py")
    seeded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seeded)
    keys = tmp_path_factory.mktemp("keys") / "bert.txt"
    lines = (KEYS / "glip_swint_fused.txt").read_text().splitlines()
    keys.write_text("\n".join(line for line in lines if line.startswith("language_backbone.")))
    encoder = BERTTextEncoder(tokenizer=numbered_vocabulary(tmp_path_factory.mktemp("words"), IDS, 30522))
    state = {f"module.{key}": value for key, value in seeded.state(keys, 3).items()}
    encoder.load_state_dict(bert_tower(state, "bert."))  # strictly
    return encoder


@needs_reference
@pytest.mark.parametrize(("name", "prompt"), [("a", DETECTION), ("c", CAPTION)])
def test_tokens_are_those_of_official_glip(official, name, prompt):
    reference = np.load(KEYS / "ref_glip.npz")
    tokens = official.with_tokens([prompt]).tokens
    assert tokens.ids[0].tolist() == reference[f"{name}_input_ids"].tolist()
    assert np.array_equal(tokens.phrases[0], reference[f"{name}_positive_map"])
    expected = torch.from_numpy(reference[f"{name}_text_hidden"])
    assert (tokens.embed[0] - expected).abs().max() <= 1e-5 * expected.abs().max()


@needs_reference
def test_padding_changes_no_token_of_official_glip(official):
    short = names_prompt(["two horses"], [0])
    tokens = official.with_tokens([DETECTION, CAPTION, short]).tokens
    assert tokens.ids[2].tolist() == [101, 2048, 5194, 102] + [0] * 8
    for row, prompt in enumerate([DETECTION, CAPTION, short]):
        alone = official.with_tokens([prompt]).tokens.embed[0]
        torch.testing.assert_close(tokens.embed[row, : len(alone)], alone, rtol=1e-5, atol=1e-5)


@pytest.fixture
def encoder(tmp_path) -> BERTTextEncoder:
    torch.manual_seed(0)
    return make_encoder(tmp_path)


def test_tokens_of_prompts_know_what_they_are(encoder):
    tokens = encoder.with_tokens([names_prompt(["hair drier", "dog"], [4, 2]), names_prompt(["cat"], [1])]).tokens
    assert tokens.is_token.sum(1).tolist() == [7, 3] and tokens.is_word.sum(1).tolist() == [5, 1]
    assert [row.nonzero().flatten().tolist() for row in tokens.phrases[0]] == [[1, 2, 3], [5]]
    assert [row.nonzero().flatten().tolist() for row in tokens.phrases[1]] == [[1]]
    assert [owners.tolist() for owners in tokens.owners] == [[4, 2], [1]]


def test_states_are_those_of_transformers_at_the_full_length(tmp_path):
    torch.manual_seed(0)
    network = save_bert(tmp_path)
    ours = BERTTextEncoder(tmp_path, max_tokens=40)
    tokens = ours.with_tokens([names_prompt(["dog"], [0]), names_prompt(["red coat", "dog"], [0, 1])]).tokens
    padded = ours.tokenizer(["dog", "red coat. dog"], padding="max_length", max_length=40, return_tensors="pt")
    with torch.no_grad():
        expected = network(**padded).last_hidden_state
    for row, length in enumerate([3, 6]):
        assert tokens.is_token[row].sum() == length
        torch.testing.assert_close(tokens.embed[row, :length], expected[row, :length], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(tokens.states_of(tokens.ids), tokens.embed)


def test_captions_are_cut_and_prompts_are_not(tmp_path):
    encoder = make_encoder(tmp_path, max_tokens=5)
    cut = encoder.with_tokens(["a red dog and a cat"]).tokens.ids[0].tolist()
    assert cut == encoder.with_tokens(["a red dog"]).tokens.ids[0].tolist()
    caption = "a red dog and a cat"
    assert encoder.with_tokens([Prompt.of_caption(caption, [[(2, 9)]])]).tokens.phrases[0].shape == (1, 5)
    with pytest.raises(ValueError, match="phrase 1, 'a cat', is not within the 3 tokens .*this one has 6"):
        encoder.with_tokens([Prompt.of_caption(caption, [[(2, 9)], [(14, 19)]])])


def test_first_texts_may_be_tokenized_only(encoder):
    tokens = encoder.with_tokens(["a dog", "a red cat"], first_encoded=1).tokens
    assert tokens.ids.shape == (2, 5) and tokens.embed.shape == (1, 5, 32)


def test_frozen_tokens_are_kept_until_the_weights_change(encoder):
    prompts = [names_prompt(["dog"], [0])]
    first = encoder.with_tokens(prompts)
    assert encoder.with_tokens(list(prompts)) is first and not first.tokens.embed.requires_grad
    for number in range(RECENT_TEXTS + 2):
        encoder.with_tokens([names_prompt(["dog"], [number])])
    assert len(encoder._recent) == RECENT_TEXTS
    with torch.no_grad():
        encoder.bert.embeddings.word_embeddings.weight.mul_(2)
    assert not torch.equal(encoder.with_tokens(prompts).tokens.embed, first.tokens.embed)


def test_trained_layers_get_gradients_and_keep_nothing(tmp_path):
    encoder = make_encoder(tmp_path, trainable=1).train()
    encoder.with_tokens(["a dog"]).tokens.embed.sum().backward()
    reached = {name for name, parameter in encoder.named_parameters() if parameter.grad is not None}
    assert reached and all(".layer.1." in name for name in reached)
    assert not len(encoder._recent)
    encoder.eval()
    with torch.no_grad():
        kept = encoder.with_tokens(["a dog"])
        assert encoder.with_tokens(["a dog"]) is kept
    assert not len(encoder.train()._recent)


def test_a_whole_text_has_no_embedding(encoder):
    for call in (encoder, encoder.embed):
        with pytest.raises(ValueError, match="BERTTextEncoder"):
            call(["a dog"])
    with pytest.raises(ValueError, match="no embedding of a whole text"):
        encoder(Vocabulary.from_names(["dog"]))
    features = encoder.with_tokens([names_prompt(["dog", "cat"], [0, 4])])
    assert features.embed.shape == (0, 32) and features.num_classes == 5


@pytest.mark.parametrize("form", ["safetensors", "bin", "old"])
def test_weights_are_read_in_the_layouts_of_their_publishers(tmp_path, form):
    network = save_bert(tmp_path)
    if form != "safetensors":
        (tmp_path / "model.safetensors").unlink()
        state = {f"bert.{key}": value for key, value in network.state_dict().items()}
        if form == "old":
            state = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): value for key, value in state.items()}
            state = {key.replace("LayerNorm.bias", "LayerNorm.beta"): value for key, value in state.items()}
            state["cls.predictions.bias"] = torch.zeros(3)
            state["bert.embeddings.position_ids"] = torch.arange(64)[None]
        torch.save(state, tmp_path / "pytorch_model.bin")
    encoder = BERTTextEncoder(tmp_path, max_tokens=64)
    for name, value in encoder.bert.state_dict().items():
        assert torch.equal(value, network.state_dict()[name])
    assert not any("pooler" in name for name, _ in encoder.named_parameters())


def test_without_start_weights_no_weights_are_needed(tmp_path):
    save_bert(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with start_weights(False):
        assert BERTTextEncoder(tmp_path, max_tokens=64).embed_dim == CONFIG["hidden_size"]
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        BERTTextEncoder(tmp_path, max_tokens=64)


def test_each_mistake_gets_one_clear_line(tmp_path, monkeypatch):
    folder = tokenizer_folder(tmp_path)
    cases = [
        (dict(config=CONFIG), ValueError, "tokenizer: expected a folder"),
        (dict(pretrained=folder, config=CONFIG), ValueError, "give one of the two"),
        (dict(config=CONFIG, tokenizer=folder), ValueError, "max_tokens: expected 3 to 64, got 256"),
        (dict(config=CONFIG, tokenizer=folder, max_tokens=2), ValueError, "max_tokens: expected 3 to 64, got 2"),
        (dict(config=CONFIG, tokenizer=tmp_path / "none"), FileNotFoundError, "holds no tokenizer.json or vocab.txt"),
        (dict(config=CONFIG | dict(vocab_size=4), tokenizer=folder), ValueError, "and the network 4"),
        (dict(pretrained=folder), FileNotFoundError, "holds no config.json"),
        (
            dict(config=CONFIG | dict(num_attention_heads=5), tokenizer=folder),
            ValueError,
            "config of BERT: The hidden size",
        ),
        (dict(config=CONFIG | dict(hidden_size="many"), tokenizer=folder), ValueError, "config of BERT: .*hidden_size"),
        (dict(config=dict(layers=3), tokenizer=folder), ValueError, "config: 'layers' is no value of"),
        (dict(config=CONFIG, tokenizer=folder, max_tokens=64, trainable="some"), ValueError, "trainable: expected"),
    ]
    for options, error, message in cases:
        with pytest.raises(error, match=message) as raised:
            BERTTextEncoder(**options)
        assert "\n" not in str(raised.value)
    (folder / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(ValueError, match="expected the config of a BERT, with model_type 'bert'"):
        BERTTextEncoder(folder)
    monkeypatch.setattr("openvocab.text.bert.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'openvocab\[hf\]'"):
        TEXT_ENCODERS.build(dict(type="BERTTextEncoder", config=CONFIG, tokenizer=str(folder)))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vocab.txt", b"a\ndog\n", r"lacks \[CLS\], \[MASK\], \[PAD\], \[SEP\], \[UNK\]"),
        ("vocab.txt", b"", r"lacks \[CLS\]"),
        ("vocab.txt", b"\xff\xfe\x00a\n", "no readable tokenizer of BERT"),
        ("tokenizer.json", b"{", "no readable tokenizer of BERT"),
        ("tokenizer.json", b"{}", "no readable tokenizer of BERT"),
        ("tokenizer_config.json", b"[]", "no readable tokenizer of BERT"),
    ],
)
def test_a_damaged_tokenizer_is_named(tmp_path, file, content, message):
    tokenizer_folder(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        BERTTextEncoder(config=CONFIG, tokenizer=tmp_path, max_tokens=64)
    assert "\n" not in str(raised.value)


def test_case_is_kept_if_the_tokenizer_says_so(tmp_path):
    assert make_encoder(tmp_path).with_tokens(["A Dog"]).tokens.ids.tolist() == [[2, 5, 21, 3]]
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert make_encoder(tmp_path).with_tokens(["A Dog"]).tokens.ids.tolist() == [[2, 1, 1, 3]]


def test_a_published_model_is_downloaded_once(hub, monkeypatch, tmp_path):
    network = save_bert(tmp_path)
    expected = network.encoder.layer[1].output.dense.weight
    for file in tmp_path.iterdir():
        if file.is_file():
            hub.add("owner/bert", file.name, file)
    first = BERTTextEncoder("hf-hub:owner/bert", max_tokens=64)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    second = BERTTextEncoder("hf-hub:owner/bert", max_tokens=64)
    for encoder in (first, second):
        assert torch.equal(encoder.bert.encoder.layer[1].output.dense.weight, expected)
        assert encoder.with_tokens(["a dog"]).tokens.ids.tolist() == [[2, 5, 21, 3]]


def test_weights_that_do_not_fit_are_listed(tmp_path):
    save_bert(tmp_path)
    transformers.BertConfig(**CONFIG | dict(num_hidden_layers=3)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"does not fit its config, nothing was loaded:\n16 missing: encoder"):
        BERTTextEncoder(tmp_path, max_tokens=64)


def test_texts_without_tokens_are_rejected(encoder):
    for texts in (["\u200b"], [""]):
        with pytest.raises(ValueError, match="the tokenizer knows none of the characters of the text"):
            encoder.with_tokens(texts)
    with pytest.raises(ValueError, match="at least one"):
        encoder.with_tokens([])
    with pytest.raises(ValueError, match="captions or prompts, not both"):
        encoder.with_tokens(["a dog", names_prompt(["dog"], [0])])
    with pytest.raises(ValueError, match="one string"):
        encoder.with_tokens("a dog")


def test_the_converter_takes_the_tower_alone():
    state = {f"{GLIP_PREFIX}encoder.layer.0.x.weight": torch.ones(1), "backbone.body.norm1.weight": torch.ones(1)}
    assert list(bert_tower(state, "text_encoder.bert.")) == ["text_encoder.bert.encoder.layer.0.x.weight"]
    with pytest.raises(ValueError, match="no BERT: backbone"):
        bert_tower({"backbone.body.norm1.weight": torch.ones(1)})
