"""The development host itself: what the other tests of the nodes stand on."""

import pytest
import torch

from devhost.client import ExecutionFailed, InvalidGraph
from devhost.install import NEWEST, InstallError, ensure, is_ready
from devhost.server import HostServer, ServerError

TEST_NODES = {f"FusionFFTTest{name}" for name in ("Load", "Save", "SaveFlow", "SaveFloat", "Sleep")}


def copying(file: str, name: str = "copied", **sleep) -> dict:
    return {
        "1": {"class_type": "FusionFFTTestLoad", "inputs": {"file": file}},
        "2": {"class_type": "FusionFFTTestSleep", "inputs": {"image": ["1", 0], "seconds": 0.0, "steps": 4} | sleep},
        "3": {"class_type": "FusionFFTTestSave", "inputs": {"image": ["2", 0], "name": name}},
    }


def test_versions_and_test_nodes(either_host):
    stats = either_host.client.json("/system_stats")["system"]
    assert stats["comfyui_version"] == either_host.server.version
    assert either_host.client.object_info().keys() >= TEST_NODES
    assert "testpack" in either_host.server.import_seconds()
    assert "testpack" not in either_host.server.failed_imports()


def test_tensors_pass_through_bit_by_bit(either_host):
    image = torch.rand(3, 20, 31, 3) * 3 - 1
    file = either_host.put("copied", image)
    first = either_host.run(copying(file))
    assert first.executed == ("1", "2", "3") and first.cached == ()
    assert [(step.node, step.value, step.maximum) for step in first.progress][-1] == ("2", 4, 4)
    assert first.outputs["3"]["tensors"][0]["filename"] == "copied.safetensors"
    assert torch.equal(either_host.saved("copied")["image"], image)

    again = either_host.run(copying(file))
    assert again.executed == () and set(again.cached) == {"1", "2", "3"}
    assert again.outputs == first.outputs

    either_host.put("copied", image + 1)  # another file under the same name is another input
    assert either_host.run(copying(file)).executed == ("1", "2", "3")
    assert torch.equal(either_host.saved("copied")["image"], image + 1)


def test_interrupt(either_host):
    file = either_host.put("slow", torch.rand(1, 4, 4, 3))
    prompt = either_host.client.submit(copying(file, seconds=60.0, steps=600))
    either_host.client.wait_event(prompt, "progress")
    either_host.client.interrupt(prompt)
    result = either_host.client.wait(prompt, timeout=20)
    assert result.interrupted and result.error is None and "3" not in result.executed
    assert result.seconds < 10


def test_a_failing_node_is_an_error_of_the_result(either_host):
    broken = copying(either_host.put("grey", torch.rand(4, 4)))
    broken["3"]["inputs"]["name"] = "missing/folder/name"
    error = either_host.client.run(broken).error
    assert isinstance(error, ExecutionFailed) and error.node == "3"
    assert "missing/folder" in error.message and "in execute" in error.trace


def test_a_wrong_graph_says_which_node_and_why(either_host):
    graph = {"7": {"class_type": "FusionFFTTestSave", "inputs": {"name": "x"}}}
    with pytest.raises(InvalidGraph, match=r"node 7 \(FusionFFTTestSave\): Required input is missing: image"):
        either_host.client.submit(graph)


def test_uploaded_files_lie_in_the_input_folder(host, tmp_path):
    path = tmp_path / "a b.bin"
    path.write_bytes(bytes(range(256)))
    name = host.client.upload(path)
    assert (host.server.input / name).read_bytes() == path.read_bytes()
    assert host.client.view({"filename": name, "subfolder": "", "type": "input"}) == path.read_bytes()


def test_a_host_that_dies_at_its_start_shows_its_log():
    with pytest.raises(ServerError, match=r"ended with status 2 .*\n(.*\n)*.*unrecognized arguments: --no-such-option"):
        HostServer(pack=None, arguments=["--no-such-option"]).__enter__()


def test_unknown_versions_are_refused():
    with pytest.raises(InstallError, match=r"unknown ComfyUI version '9\.9': this recipe knows 0\.30\.0, 0\.18\.2"):
        ensure("9.9")


def test_a_failed_installation_says_why_and_is_not_taken_for_ready(tmp_path, monkeypatch):
    monkeypatch.setenv("FUSIONFFT_HOSTS", str(tmp_path))
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": "", "CONFIG_FILE": "/dev/null"}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    said = []
    with pytest.raises(InstallError, match=r"failed with status 1: .* install .* torch (.*\n)+ERROR: "):
        ensure(NEWEST, say=said.append)
    assert said[0].startswith(f"Installing ComfyUI {NEWEST} into {tmp_path}")
    assert not is_ready(NEWEST) and not list(tmp_path.rglob("ready.json"))
