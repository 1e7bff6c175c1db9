"""Nothing connects to anything unless a download is asked for: not the library, its commands, nor the nodes."""

import os
import subprocess
import sys
from pathlib import Path

from hosts import RunningHost
from places import ROOT

from tests.nodes.graphs import Graph, moving

PROBE = Path(__file__).with_name("offline_probe.py")


def test_only_a_download_that_is_asked_for_needs_the_network(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    ran = subprocess.run(
        [sys.executable, PROBE, tmp_path], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "asked: https://" in ran.stdout and "this process has no network" in ran.stdout


def test_nodes_connect_to_nothing(host: RunningHost):
    graph = Graph(host)
    images = graph.clip("offline", moving(3))
    graph.save("offline", graph.add("FusionFFTInterpolate", images=images))
    graph.run()
    log = (host.server.base / "connections.log").read_text().splitlines()
    assert any("('127.0.0.1', 9)" in line for line in log), "nobody watched"
    assert not [line for line in log if line.startswith("pack")]
