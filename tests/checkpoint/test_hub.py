"""Files of a hub: a download is continued, what is closed or absent is one line, and a dead network is noticed."""

import os
import socket
import time
from pathlib import Path

import pytest
from huggingface_hub import constants
from local_hub import use_hub

from openvocab.checkpoint import hub as hub_module
from openvocab.checkpoint.hub import can_reach, hub_file

CONTENT = os.urandom(25_000_000)
"""More than the client reads at once, 10 MB."""


def test_the_first_file_that_is_there_is_taken(hub):
    hub.add("owner/name", "second.bin", b"second")
    hub.add("owner/name", "third.bin", b"third")
    assert hub_file("owner/name", ["first.bin", "second.bin", "third.bin"]).read_bytes() == b"second"


def test_a_download_that_is_cut_is_continued(hub):
    hub.add("owner/name", "weights.bin", CONTENT)
    hub.cut_after = 12_000_000
    path = hub_file("owner/name", ["weights.bin"])
    assert path.read_bytes() == CONTENT
    assert any(asked.startswith("bytes=") and not asked.startswith("bytes=0-") for asked in hub.ranges)


def test_a_gated_repository_says_where_its_conditions_are(hub):
    hub.gated.add("owner/closed")
    hub.add("owner/closed", "weights.bin", b"secret")
    with pytest.raises(
        PermissionError, match="is gated: accept its conditions at http.*owner/closed.*HF_TOKEN"
    ) as error:
        hub_file("owner/closed", ["weights.bin"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["nobody listens", "nobody answers", "offline"])
def test_without_a_network_the_cache_is_used_and_nobody_waits(hub, monkeypatch, tmp_path, kind):
    hub.add("owner/name", "weights.bin", b"weights")
    path = hub_file("owner/name", ["weights.bin"])
    monkeypatch.setattr(hub_module, "CONNECT_SECONDS", 1.0)
    silent = socket.create_server(("127.0.0.1", 0))
    if kind == "nobody listens":
        silent.close()
        use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "hub cache")
    elif kind == "nobody answers":
        use_hub(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path / "hub cache")
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    began = time.monotonic()
    assert hub_file("owner/name", ["absent.bin", "weights.bin"]) == path
    with pytest.raises(FileNotFoundError, match="download weights.bin from http.*owner/other, and put it at ") as error:
        hub_file("owner/other", ["weights.bin"])
    assert time.monotonic() - began < 5 and "\n" not in str(error.value)
    silent.close()


def test_a_file_that_was_put_there_by_hand_is_taken(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError) as error:
        hub_file("owner/name", ["weights.safetensors", "weights.bin"])
    path = Path(str(error.value).rpartition(" put it into ")[2]) / "weights.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights")
    assert hub_file("owner/name", ["weights.safetensors", "weights.bin"]) == path
    with pytest.raises(FileNotFoundError):
        hub_file("owner/name@v2", ["weights.safetensors"])


def test_an_address_is_reached_directly_or_by_a_proxy(hub, monkeypatch):
    assert can_reach(f"{hub.address}/a/b/c")
    assert not can_reach("http://127.0.0.1:9/a/b/c")
    monkeypatch.setenv("http_proxy", hub.address)
    assert can_reach("http://no-such-host.invalid/a/b/c")


def test_a_download_that_fails_again_and_again_is_one_line(hub, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)
    hub.add("owner/name", "weights.bin", CONTENT)
    hub.cut_after = 1000
    with pytest.raises(
        ConnectionError, match="hf-hub:owner/name: the download of weights.bin was cut .*again$"
    ) as error:
        hub_file("owner/name", ["weights.bin"])
    assert "\n" not in str(error.value)
