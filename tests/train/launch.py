"""Two training processes under Accelerate, on the CPU, as two GPUs would be."""

import os
import subprocess
import sys
import textwrap

from places import ROOT

from comfy_fusionfft.train import state


def two_processes(module, folder, tmp_path):
    """Train ``module.small_recipe()``, whose batch is 2, for 3 steps in two processes: they agree on the weights,
    count both their samples, and save both their samplers."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import sys
        sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
        from pathlib import Path
        import torch
        from {module} import small_recipe
        from comfy_fusionfft.train.loop import Budget, train
        torch.set_num_threads(1)
        budget = Budget(steps=3, validate_every=99, save_every=99)
        out = Path({str(tmp_path / "out")!r})
        progress = train(small_recipe(), Path({str(folder)!r}), out, budget, device="cpu", precision="no")
        assert (progress.step, progress.samples) == (3, 12), progress
        """)
    )
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    threads = {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(launch, capture_output=True, text=True, timeout=240, env=os.environ | threads)
    assert done.returncode == 0, done.stderr[-2000:]
    tensors, numbers = state.load_state(tmp_path / "out" / "state")
    assert numbers["step"] == 3 and {"sampler.0.choice", "sampler.1.choice"} <= tensors.keys()
