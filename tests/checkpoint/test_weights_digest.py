import torch

from openvocab.checkpoint.weights_digest import weights_digest


def test_it_follows_names_types_shapes_and_bits_and_not_the_order():
    state = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3)}
    digest = weights_digest(state)
    assert (
        digest
        == weights_digest(dict(reversed(state.items())))
        == weights_digest({k: v.clone() for k, v in state.items()})
    )
    others = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"].view(3, 2), "b": state["b"]},
        {"a": state["a"].to(torch.bfloat16), "b": state["b"]},
        {"a": state["a"].view(torch.int32), "b": state["b"]},
        {"a": state["a"].T.contiguous().T * -1, "b": state["b"]},
        {"a": state["a"]},
    ]
    assert len({digest, weights_digest(state, "facts"), *map(weights_digest, others)}) == len(others) + 2


def test_memory_order_and_scalars():
    values = torch.randn(4, 4)
    assert weights_digest({"a": values.T.contiguous().T}) == weights_digest({"a": values})
    assert weights_digest({"a": torch.tensor(1)}) != weights_digest({"a": torch.tensor(2)})
