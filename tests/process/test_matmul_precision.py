"""Each of torch's switches for float32 products is the host's to use: nothing fails, nothing changes it."""

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.config import Config
from tiny_run import run

from openvocab import load
from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine.precision import medium_error
from openvocab.layers import attention
from openvocab.process.bfloat16_probe import bfloat16_gain
from openvocab.process.matmul_precision import kept_matmul_precision, matmul_precision

pytestmark = pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="torch has the older switch only")

SWITCHES = {
    "all": torch.backends,
    "cuda": torch.backends.cuda.matmul,
    "cudnn": torch.backends.cudnn,
    "mkldnn": torch.backends.mkldnn.matmul if hasattr(torch.backends.mkldnn, "matmul") else None,
}
CASES = [("all", "tf32"), ("cuda", "tf32"), ("cudnn", "tf32"), ("mkldnn", "tf32"), ("mkldnn", "bf16")]


@pytest.fixture(autouse=True)
def untouched_switches():
    """Start as a process does that has used neither switch, whatever the tests before did, and end so."""
    _reset()
    yield
    _reset()


def _reset():
    torch.set_float32_matmul_precision("highest")
    for switch in SWITCHES.values():
        switch.fp32_precision = "none"


@pytest.fixture(params=CASES, ids=["-".join(case) for case in CASES])
def host(request):
    """A switch and its value, set so that torch's older question for it fails."""
    name, precision = request.param
    SWITCHES[name].fp32_precision = precision
    with pytest.raises(RuntimeError):
        torch.get_float32_matmul_precision()
    return request.param


@pytest.fixture(scope="module")
def predictor():
    config = Config.fromfile(str(REPOSITORY / "configs" / "dense_clip_shapes.py"))
    return load(Config(dict(model=without_weights(config.model))), device="cpu", dtype=torch.float32)


def values():
    return {name: switch.fp32_precision for name, switch in SWITCHES.items()}


def test_a_model_predicts(host, predictor):
    before = values()
    label_map = predictor(np.zeros((32, 32, 3), np.uint8), "cat, dog").label_map
    assert label_map.shape == (32, 32) and values() == before


def test_a_run_saves_and_goes_on(host, tmp_path):
    run(tmp_path, max_iters=4)
    meta = load_checkpoint(tmp_path / "last.pth")["meta"]
    assert meta["matmul_precision"] == matmul_precision("cuda" if torch.cuda.is_available() else "cpu")
    run(tmp_path, resume=True, max_iters=8)


def test_probes_leave_the_switches_alone(host):
    before = values()
    medium_error.cache_clear()
    assert medium_error("cpu") > 0 and bfloat16_gain("cpu").products > 0
    assert values() == before
    for switch in SWITCHES.values():
        switch.fp32_precision = "none"
    assert torch.get_float32_matmul_precision() == "highest"  # what the host takes back is gone


@pytest.mark.parametrize(
    ("name", "precision", "cpu", "cuda"),
    [
        ("all", "tf32", "high", "high"),
        ("all", "ieee", "highest", "highest"),
        ("cuda", "tf32", "highest", "high"),
        ("cudnn", "tf32", "highest", "high"),
        ("mkldnn", "tf32", "high", "highest"),
        ("mkldnn", "bf16", "medium", "highest"),
    ],
)
def test_each_device_has_its_own_word(name, precision, cpu, cuda):
    SWITCHES[name].fp32_precision = precision
    assert (matmul_precision("cpu"), matmul_precision(torch.device("cuda:0"))) == (cpu, cuda)


@pytest.mark.parametrize("word", ["highest", "high", "medium"])
def test_the_older_switch_is_read_and_put_back(word):
    torch.set_float32_matmul_precision(word)
    before = values()
    with kept_matmul_precision():
        torch.set_float32_matmul_precision("medium")
    assert matmul_precision("cpu") == matmul_precision("cuda") == word and values() == before


def test_attention_on_the_cpu_does_not_follow_the_switch_of_cuda():
    q = torch.zeros(1, 2, 10, 8)
    SWITCHES["cuda"].fp32_precision = "tf32"
    assert not attention._many_small_products(q, q)
    SWITCHES["mkldnn"].fp32_precision = "bf16"
    assert attention._many_small_products(q, q)
