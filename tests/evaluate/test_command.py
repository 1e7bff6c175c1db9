import json

import cv2
import numpy as np
import pytest

from comfy_fusionfft.cli import main


def test_clips_and_benchmarks_exclude_one_another(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "--clips", str(tmp_path), "--benchmarks", str(tmp_path)])
    assert stop.value.code == 2 and "not allowed with argument --clips" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate"])
    assert "one of the arguments --clips --benchmarks is required" in capsys.readouterr().err


def test_benchmarks_print_a_table_and_write_json_and_sheets(tmp_path, capsys):
    scene = tmp_path / "sets" / "sepconv_db_triplets" / "0"
    scene.mkdir(parents=True)
    wide = cv2.resize(np.random.default_rng(2).integers(0, 255, (9, 20, 3), dtype=np.uint8), (120, 60))
    for k in range(3):
        cv2.imwrite(str(scene / f"frame{k}.png"), wide[:, 3 * k : 3 * k + 80])
    command = ["evaluate", "--benchmarks", str(tmp_path / "sets"), "--flows", "dis", "--methods", "rife"]
    command += ["--json", str(tmp_path / "out.json"), "--sheets", str(tmp_path / "sheets"), "--device", "cpu"]
    assert main(command) == 0
    table = capsys.readouterr().out
    assert "worst frames of rife:dis" in table and "sepconv triplets 150x150" in table
    data = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["method"] for row in data["means"]] == ["average", "dis-baseline", "rife:dis"]
    assert "sepconv" in data["protocol"]["benchmarks"] and data["frames"][0]["frame"] == "frame1"
    assert (tmp_path / "sheets" / "worst.png").is_file()
