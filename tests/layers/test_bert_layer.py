"""The text layer against transformers' BERT and by plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.layers.bert_layer import BERTLayer

NAMES = {
    "attention.self.": "",
    "attention.output.dense": "out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "out_norm",
}


def make_text() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 7, 24, generator=generator), torch.arange(7) < torch.tensor([[7], [4]])


def make_layer(scale: float = 1.0) -> BERTLayer:
    torch.manual_seed(0)
    layer = BERTLayer(24, 3).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        layer.query.weight.mul_(scale)
    return layer


@torch.no_grad()
def test_it_is_transformers_layer_of_bert():
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=5, hidden_size=24, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96
    )
    bert = transformers.BertModel(config, add_pooling_layer=False).eval()
    state = {}
    for key, value in bert.encoder.layer[0].state_dict().items():
        for theirs, ours in NAMES.items():
            if key.startswith(theirs):
                state[ours + key.removeprefix(theirs)] = value
                break
    layer = BERTLayer(24, 3).eval()
    layer.load_state_dict(state)
    ids, is_token = torch.randint(5, (2, 7)), make_text()[1]
    outputs = bert(ids, attention_mask=is_token.long(), output_hidden_states=True)
    actual = layer(outputs.hidden_states[0], is_token)
    torch.testing.assert_close(actual[is_token], outputs.last_hidden_state[is_token], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1e6])
@torch.no_grad()
def test_it_is_the_plain_formula_with_clamped_scores(scale):
    layer, (text, is_token) = make_layer(scale), make_text()
    actual = layer(text, is_token)
    for image in range(2):
        x, count = text[image], int(is_token[image].sum())
        mixed = []
        for head in range(3):
            own = slice(8 * head, 8 * head + 8)
            q, k, v = (x @ part.weight[own].T + part.bias[own] for part in (layer.query, layer.key, layer.value))
            scores = (q @ k.T / 8**0.5).clamp(-50000, 50000)[:, :count]
            mixed.append(scores.softmax(-1) @ v[:count])
        x = F.layer_norm(x + layer.out(torch.cat(mixed, -1)), (24,), *layer.attention_norm.parameters(), 1e-12)
        h = x @ layer.fc1.weight.T + layer.fc1.bias
        h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
        expected = F.layer_norm(x + layer.fc2(h), (24,), *layer.out_norm.parameters(), 1e-12)
        torch.testing.assert_close(actual[image], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_is_finite_where_scores_overflow(dtype):
    layer, (text, is_token) = make_layer(), make_text()
    layer.query.weight.mul_(3e3)
    layer.key.weight.mul_(3e3)
    assert layer.to(dtype)(text.to(dtype), is_token).isfinite().all()


def test_dropout_acts_in_training_only():
    layer, (text, is_token) = make_layer(), make_text()
    with torch.no_grad():
        assert torch.equal(layer(text, is_token), layer(text, is_token))
        layer.train()
        assert not torch.equal(layer(text, is_token), layer(text, is_token))
