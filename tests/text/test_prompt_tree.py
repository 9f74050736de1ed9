"""Prompts that share their beginnings: the tree itself, and embeddings equal to open_clip's."""

import open_clip
import pytest
import torch

from openvocab.text import text_tower
from openvocab.text.prompt_tree import MIN_NODES, PromptTree, lexicographic_order
from openvocab.text.text_tower import encode_tokens

PROMPTS = torch.tensor([[1, 5, 6, 9], [1, 5, 6, 9], [1, 5, 7, 9], [1, 8, 6, 9]])


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    text = {"context_length": 20, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3}
    vision = {"image_size": 16, "patch_size": 8, "width": 64, "layers": 1}
    return open_clip.CustomTextCLIP(embed_dim=24, vision_cfg=vision, text_cfg=text).text.eval()


def tokens_of(prompts):
    tokens = open_clip.SimpleTokenizer(context_length=20)(prompts)
    return tokens, (tokens != 0).sum(1)


def test_every_distinct_beginning_is_one_node():
    tree = PromptTree(PROMPTS)
    beginnings = {tuple(row[: length + 1].tolist()) for row in PROMPTS for length in range(4)}
    assert len(set(tree.first.tolist())) == len(beginnings) == int(tree.node.max()) + 1
    assert torch.equal(tree.node[0], tree.node[1])
    assert len(tree.ids) == MIN_NODES


def test_nodes_hold_the_token_and_place_that_they_stand_for():
    tree = PromptTree(PROMPTS)
    assert torch.equal(tree.spread(tree.ids[:, None])[..., 0], PROMPTS)
    assert torch.equal(tree.spread(tree.position[:, None])[..., 0], torch.arange(4).expand(4, 4))


def test_gathering_what_was_spread_gives_it_back():
    tree = PromptTree(PROMPTS)
    values = torch.randn(int(tree.node.max()) + 1, 3)
    torch.testing.assert_close(tree.gather(tree.spread(values))[: len(values)], values)


def test_equal_beginnings_are_put_side_by_side():
    shuffled = PROMPTS[torch.tensor([3, 0, 2, 1])]
    assert torch.equal(shuffled[lexicographic_order(shuffled)], PROMPTS)


def test_embeddings_equal_the_towers_own(tower):
    templates = ["{}", "a photo of a {}.", "a photo of the small {} on a wall", "two {}s"]
    prompts = [t.format(name) for name in ("cat", "red cat", "red car", "zebra crossing", "cat") for t in templates]
    tokens, lengths = tokens_of(prompts)
    with torch.no_grad():
        actual = encode_tokens(tower, tokens, lengths, batch_size=7, exact_lengths=True)
        torch.testing.assert_close(actual, tower(tokens), rtol=1e-5, atol=1e-5)


def test_an_embedding_does_not_depend_on_its_neighbors(tower):
    names = ("cat", "dog", "cow", "car", "zebra", "cup", "pig")
    tokens, lengths = tokens_of([f"a photo of a {name}" for name in names])
    with torch.no_grad():
        together = encode_tokens(tower, tokens, lengths, batch_size=128, exact_lengths=True)
        for index in range(len(tokens)):
            one = slice(index, index + 1)
            alone = encode_tokens(tower, tokens[one], lengths[one], batch_size=128, exact_lengths=True)
            assert torch.equal(alone[0], together[index])


def test_a_name_that_holds_an_end_token_ends_there_as_in_open_clip(tower):
    tokens, lengths = tokens_of(["a cat", "a dog"])
    tokens[0, 2] = tokens[0, lengths[0] - 1]
    with torch.no_grad():
        actual = encode_tokens(tower, tokens, lengths, batch_size=8, exact_lengths=True)
        torch.testing.assert_close(actual, tower(tokens), rtol=1e-5, atol=1e-5)


def test_gradients_take_the_plain_way(tower, monkeypatch):
    monkeypatch.setattr(text_tower, "PromptTree", lambda tokens: pytest.fail("a tree has no gradient to every prompt"))
    tokens, lengths = tokens_of(["a cat", "a dog"])
    encode_tokens(tower, tokens, lengths, batch_size=8, exact_lengths=True).sum().backward()
    assert tower.token_embedding.weight.grad.abs().sum() > 0
