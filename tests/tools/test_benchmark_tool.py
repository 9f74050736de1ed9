"""tools/benchmark.py: how it times, what it reports, and that rows compare equal work. No test asserts a time."""

import json
import sys
from dataclasses import replace
from functools import partial
from inspect import signature
from pathlib import Path

import pytest
import torch
from tool_runs import REPOSITORY, run_tool

sys.path.insert(0, str(REPOSITORY / "tools"))  # as running the tool does

from benchmarks import dense_features, info_nce_loss, label_map, lseg_inference, rows, text_encoding, training_step
from benchmarks.comparison import Row, Sides, Timing, matmul_precision, time_sides, use_threads
from benchmarks.flops import count_flops
from benchmarks.machine import attainable_peak, library_note
from benchmarks.measurement import measure
from benchmarks.memory import CLEAR, peak_memory_mb
from benchmarks.profile import operator_fractions
from benchmarks.report import header, machine_lines, table_line, verdict, write_json

TINY = "ViT-Ti-8-shapes"
TINY_LSEG = {
    "model.backbone.model": TINY,
    "model.text_encoder.model": TINY,
    "model.head.layers": (1, 2, 3, 4),
    "model.head.decoder.dims": (8, 16, 24, 32),
    "model.head.decoder.features": 16,
}
SCHEMA = {"name", "peer_ms", "ours_ms", "ratio", "goal", "peer_mb", "ours_mb", "max_error", "share_of_peak", "note"}
MACHINE = {
    "cpu": "a processor",
    "threads": 1,
    "fast_matmul": "medium",
    "peak_gflops": {"float32": 100.0, "float32_medium": 200.0, "bfloat16": 400.0},
}


class Clock:
    """A clock that the work itself moves."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def work(self, name, seconds):
        durations = iter(seconds)

        def call():
            self.calls.append(name)
            self.now += next(durations)

        return call


def allocate(megabytes):
    return Sides(lambda: torch.ones(megabytes << 18).sum(), lambda: torch.ones(1))


def test_sides_take_turns_and_alternate_who_is_first():
    clock = Clock()
    time_sides(Sides(clock.work("peer", [1] * 3), clock.work("ours", [1] * 3)), 3, lambda: clock.now)
    assert clock.calls == ["peer", "ours", "ours", "peer", "peer", "ours"]


def test_ratio_is_the_median_over_rounds_not_the_ratio_of_medians():
    timing = Timing(peer=[1.0, 10.0, 4.0], ours=[0.5, 1.0, 4.0])
    assert timing.ratio == 0.5
    assert Timing(ours=[1.0]).ratio is None


def test_samples_are_scaled_to_the_whole_work():
    clock = Clock()
    sides = Sides(clock.work("peer", [2]), clock.work("ours", [3]), peer_scale=10, ours_scale=2)
    timing = time_sides(sides, 1, lambda: clock.now)
    assert (timing.peer, timing.ours, timing.ratio) == ([20], [6], 0.3)


def test_no_repeat_is_refused():
    with pytest.raises(ValueError, match="repeats"):
        time_sides(Sides(None, lambda: None), 0)


def test_each_side_runs_at_its_precision_and_leaves_the_setting_alone():
    before = torch.get_float32_matmul_precision()
    seen = []
    time_sides(Sides(lambda: seen.append(torch.get_float32_matmul_precision()), lambda: None), 1)
    assert seen == ["highest"] and torch.get_float32_matmul_precision() == before
    with pytest.raises(KeyError), matmul_precision("ours"):
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


def test_threads_are_put_back():
    before = torch.get_num_threads()
    with use_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before


def test_products_convolutions_and_attention_are_counted():
    q = torch.randn(1, 2, 16, 8, requires_grad=True)
    attention = 4 * 2 * 16 * 16 * 8

    def step():
        torch.nn.functional.scaled_dot_product_attention(q, q, q).sum().backward()
        return torch.randn(3, 5) @ torch.randn(5, 7)

    result, flops = count_flops(step)
    assert result.shape == (3, 7) and flops == attention * 3.5 + 2 * 3 * 5 * 7


def test_peak_follows_the_precision_that_the_probe_allows():
    assert attainable_peak(MACHINE, "float32") == 200
    assert attainable_peak(MACHINE | {"fast_matmul": "highest"}, "float32") == 100
    assert attainable_peak(MACHINE, "bfloat16") == 400


def test_a_ratio_that_leans_on_one_library_says_so():
    assert "oneDNN" in library_note(MACHINE, "float32") and "bfloat16" in library_note(MACHINE, "bfloat16")
    assert library_note(MACHINE | {"fast_matmul": "highest"}, "float32") == "" == library_note(MACHINE, None)


def test_bfloat16_has_goals_of_time_where_it_is_no_slower_than_float32():
    row = Row(
        "bf16", 0.5, lambda: Sides(None, lambda: None), products="bfloat16", min_peak_fraction=0.8, max_memory_ratio=0.1
    )
    goals = ("goal", "peak_goal", "memory_goal")
    assert [measure(row, MACHINE, repeats=1)[goal] for goal in goals] == [0.5, 0.8, 0.1]
    slow = MACHINE | {"peak_gflops": {**MACHINE["peak_gflops"], "bfloat16": 199.0}}
    result = measure(row, slow, repeats=1)
    assert [result[goal] for goal in goals] == [None, None, 0.1] and "slower than float32 here" in result["note"]


@pytest.mark.skipif(not CLEAR.exists(), reason="memory peaks are read from Linux's /proc")
def test_memory_is_the_peak_of_one_call_in_its_own_process():
    megabytes = peak_memory_mb(partial(allocate, 200), "peer", 1)
    assert 195 < megabytes < 260


def test_a_row_end_to_end(tmp_path):
    row = Row("label_map", 0.5, partial(label_map.prepare, 12, (32, 64), 8), note="small")
    result = measure(row, MACHINE, repeats=2)
    assert SCHEMA <= set(result) and result["max_error"] == 0 and result["goal"] == 0.5
    assert result["ratio"] > 0 and result["peer_mb"] is None and result["repeats"] == 2
    write_json(tmp_path / "new" / "out.json", MACHINE, [result])
    assert json.loads((tmp_path / "new" / "out.json").read_text()) == {"machine": MACHINE, "rows": [result]}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.json"]
    line, *below = table_line(result).splitlines()
    assert line.startswith("label_map ") and len(line) <= len(header()) and below[-1].strip() == "small"


def test_goals_are_judged():
    goals = ["goal", "memory_goal", "goal_ms", "peak_goal"]
    result = dict.fromkeys([*goals, "ratio", "memory_ratio", "ours_ms", "share_of_peak"])
    assert verdict(result) == ""
    assert "time 0.4: met (<= 0.5)" in verdict(result | {"ratio": 0.4, "goal": 0.5})
    assert "memory 0.2: MISSED" in verdict(result | {"memory_ratio": 0.2, "memory_goal": 0.1})
    assert "share of the peak 79%: MISSED (>= 80%)" in verdict(result | {"share_of_peak": 0.79, "peak_goal": 0.8})
    assert "share of the peak 81%: met" in verdict(result | {"share_of_peak": 0.81, "peak_goal": 0.8})
    assert "time 12 ms: MISSED (<= 10 ms)" in verdict(result | {"ours_ms": 12.0, "goal_ms": 10})


def error_of(sides):
    return sides.error(sides.peer(), sides.ours())


@pytest.mark.parametrize(
    "sides, tolerance",
    [
        (partial(dense_features.prepare, torch.float32, TINY, 128), 1e-5),
        (partial(lseg_inference.prepare, "lseg_ade_clip-vit-b16.py", torch.float32, True, 64, 5, TINY_LSEG), 0.002),
        (partial(lseg_inference.prepare, "lseg_ade_clip-vit-b16.py", torch.bfloat16, False, 64, 5, TINY_LSEG), 0.2),
        (partial(training_step.prepare, False, "lseg_ade_clip-vit-b16.py", 64, 5, 2, TINY_LSEG), 1e-3),
        (partial(text_encoding.prepare_cold, "float32", TINY, "imagenet7", 4), 1e-5),
        (partial(text_encoding.prepare_new_name, TINY, "imagenet7", 4), 1e-5),
        (partial(rows.confusion.prepare, 150, 2, 64), 0),
        (partial(rows.region_cache.prepare, "float32", TINY, (64, 96), 2, 3), 1e-5),
        (partial(info_nce_loss.prepare, 300, 16), 1e-5),
        (partial(rows.mask_rcnn.prepare, torch.float32, (64, 96), 30), 0),
        (partial(rows.class_wise_nms.prepare, 60, 50, 5), 0),
        (partial(rows.mask_encoding.prepare, 9, (60, 80)), 0),
    ],
    ids=[
        "dense",
        "lseg_text",
        "lseg_bf16",
        "step",
        "text",
        "new_name",
        "confusion",
        "regions",
        "info_nce",
        "mask_rcnn",
        "nms",
        "masks",
    ],
)
def test_both_sides_of_a_row_compute_the_same(sides, tolerance, device):
    on_a_device = "device" in signature(sides.func).parameters
    if device != "cpu" and not on_a_device:
        pytest.skip("work of the processor")
    assert error_of(sides(device=device) if on_a_device else sides()) <= tolerance


def test_a_cold_text_row_stays_cold(monkeypatch):
    sides = text_encoding.prepare_cold("float32", TINY, "imagenet7", 4)
    encoded = []
    encode = text_encoding.CLIPTextEncoder._encode_names
    monkeypatch.setattr(
        text_encoding.CLIPTextEncoder, "_encode_names", lambda self, names: encoded.append(names) or encode(self, names)
    )
    for _ in range(20):
        sides.ours()
    assert len(encoded) == 20


def test_a_warm_text_row_reads_and_encodes_nothing(monkeypatch):
    sides = text_encoding.prepare_warm(TINY, 6)
    monkeypatch.delattr(text_encoding.CLIPTextEncoder, "_encode_names")
    with matmul_precision("ours"):
        assert all(sides.ours().shape == (6, 128) for _ in range(20))


def test_the_loader_row_makes_crops_of_one_size():
    sides = rows.loader.prepare((60, 80), samples=2, crop=24)
    ours, peer = sides.ours(), sides.peer()
    assert [item["image"].shape for item in ours] == [(3, 24, 24)] * 2
    assert [item["inputs"].shape for item in peer] == [(3, 24, 24)] * 2


def test_rows_are_known_by_distinct_names_and_pickle():
    import pickle

    assert len({row.name for row in rows.ROWS}) == len(rows.ROWS)
    for row in rows.ROWS:
        pickle.loads(pickle.dumps(row.prepare))


def test_rows_for_a_gpu_are_those_that_take_a_device():
    for row in rows.ROWS:
        assert row.on_cuda == ("device" in signature(row.prepare).parameters), row.name


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_one_line(capsys):
    assert run_tool("benchmark", "--device", "cuda") == 2
    assert "--device cuda: torch finds no CUDA device here" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_row_on_the_gpu(capsys, tmp_path, monkeypatch):
    small = Row("small", 0.5, partial(label_map.prepare, 12, (64, 64), 8), on_cuda=True)
    monkeypatch.setattr(rows, "ROWS", (small, replace(small, name="other", on_cuda=False)))
    assert run_tool("benchmark", "--device", "cuda", "--out", tmp_path / "out.json") == 0
    content = json.loads((tmp_path / "out.json").read_text())
    (row,) = content["rows"]
    assert SCHEMA <= set(row) and row["goal"] == 1.0 and row["max_error"] < 0.01
    assert row["peer_mb"] > 0 and row["ratio"] > 0
    assert content["machine"]["peak_gflops"]["bfloat16"] > content["machine"]["peak_gflops"]["float32"]
    printed = capsys.readouterr().out
    assert torch.cuda.get_device_name() in printed and "excluded, since they run on the processor: other" in printed


def test_the_gpu_is_named_above_the_table():
    gpu = {"device": "cuda", "gpu": "A GPU", "driver": "580.1", "cuda": "13.0", "cudnn": 91500, "cudnn_tf32": True}
    machine = MACHINE | gpu | {"capability": "AVX2", "onednn_isa": "AVX2", "torch": "2.11", "error_of_medium": 3e-4}
    first, *_ = machine_lines(machine).splitlines()
    assert first == "A GPU, driver 580.1, CUDA 13.0, cuDNN 91500 (TF32 of convolutions on)"
    assert machine_lines({key: machine[key] for key in machine if key not in gpu}).startswith(
        "a processor (torch AVX2,"
    )


def test_list_names_the_rows(capsys):
    assert run_tool("benchmark", "--list") == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == [row.name for row in rows.ROWS]
    assert run_tool("benchmark", "--list", "--rows", "lseg") == 0
    assert all(line.startswith("lseg") for line in capsys.readouterr().out.splitlines())


def test_an_unknown_row_is_one_line(capsys):
    assert run_tool("benchmark", "--rows", "nothing") == 2
    assert "no row starts with 'nothing'" in capsys.readouterr().err


def test_the_tool_writes_what_it_prints(tmp_path, capsys, monkeypatch):
    small = Row("small", 1.0, partial(label_map.prepare, 5, (16, 16), 4))
    monkeypatch.setattr(rows, "ROWS", (small, replace(small, name="other")))
    out: Path = tmp_path / "benchmark.json"
    assert run_tool("benchmark", "--rows", "small", "--repeats", "1", "--threads", "1", "--out", out) == 0
    content = json.loads(out.read_text())
    assert [row["name"] for row in content["rows"]] == ["small"]
    assert set(content["machine"]["peak_gflops"]) == {"float32", "float32_medium", "bfloat16"}
    printed = capsys.readouterr().out
    assert content["machine"]["cpu"] in printed and "\nsmall " in printed


def test_operators_share_the_time_by_how_long_they_take():
    large, small = torch.ones(512, 512), torch.ones(8)
    shares = operator_fractions(lambda: (large @ large @ large, small.exp()))
    assert shares[0][0] == "aten::mm" and shares[0][1] > 0.5
    assert "aten::exp" in dict(shares)
    assert sum(share for _, share in shares) == pytest.approx(1.0)


def test_a_profile_replaces_the_times(capsys, monkeypatch):
    monkeypatch.setattr(rows, "ROWS", (Row("small", 1.0, partial(label_map.prepare, 5, (16, 16), 4)),))
    assert run_tool("benchmark", "--profile", "--threads", "1") == 0
    line = capsys.readouterr().out.splitlines()[-1]
    name, _, parts = line.partition(": ")
    assert name == "small" and "aten::" in parts
    assert sum(float(part.split()[-1].rstrip("%")) for part in parts.split(", ")) == pytest.approx(100, abs=1)
