import argparse
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def everything():
    spec = importlib.util.spec_from_file_location("all_benchmarks", ROOT / "benchmarks" / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_name_is_a_script(everything):
    assert [name for name in everything.NAMES if not (ROOT / "benchmarks" / f"{name}.py").is_file()] == []
    assert {*everything.DOWNLOADS, *everything.MODEL_FREE, *everything.STARTS} <= set(everything.NAMES)


def test_a_model_is_passed_on_by_the_name_that_each_knows(everything):
    chosen = argparse.Namespace(quick=True, model="bundled")
    options = {name: everything.options_of(name, chosen) for name in ("dsb2018", "ctc", "usiigaci")}
    assert options == {
        "dsb2018": ["--quick", "--model", "bundled"],
        "ctc": ["--quick", "--start", "bundled"],
        "usiigaci": ["--quick"],
    }


def test_options_after_the_dashes_reach_the_benchmark(tmp_path):
    words = [sys.executable, "-m", "benchmarks", "ctc", "--output", str(tmp_path), "--", "--folder", "no such folder"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and "no such folder" in done.stderr and "could not measure: ctc" in done.stderr
    assert "Not measured: it ended with 1" in (tmp_path / "ctc.md").read_text()
