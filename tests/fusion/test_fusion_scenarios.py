"""Guards, patches and the cache folder at work, each scenario in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def run(arguments, folder, **environment):
    # A compile cache that served this process has left its folder in the environment.
    env = {name: value for name, value in os.environ.items() if not name.startswith("MS_COMPILER_CACHE")}
    env.update({"XDG_CACHE_HOME": str(folder / "cache"), **environment})
    (folder / "work").mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder / "work",
        env=env,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads([line for line in done.stdout.splitlines() if line[:1] in "[{"][-1])


def scenario(name, folder, *arguments, **environment):
    return run([_HERE / "fusion_scenarios.py", name, *arguments], folder, **environment)


def test_a_compilation_sees_the_merged_flags_and_leaves_the_users(tmp_path):
    found = scenario("flags_seen", tmp_path)
    assert found["fusion off"] == "" and found["no guard"] == ""
    assert found["context"] == ["--disable_cluster_ops=Pow,Add", "--disable_cluster_ops=Pow"]
    everyone = "--disable_cluster_ops=Mul,Pow,Add"
    assert found["environment"] == [everyone, "--disable_cluster_ops=Mul", "--disable_cluster_ops=Pow"]
    assert found["patch"] == ["--disable_cluster_ops=Mul,Pow,Transpose", "--disable_cluster_ops=Mul"]
    assert found["failed"] == [everyone.replace("Add", "Sub"), "--disable_cluster_ops=Mul", "--disable_cluster_ops=Pow"]


@pytest.mark.slow
def test_a_guard_that_comes_too_late_says_so(tmp_path):
    found = scenario("late", tmp_path)
    assert found["fusion off"] == [] and found["fresh"] == [[], []]
    (line,) = found["cell"]
    assert "a graph of ReLU was compiled before this guard" in line and "Add, Mul may be fused" in line
    (line,) = found["another guard"]
    assert "(Mul may be fused)" in line
    (line,) = found["function"]
    assert "Network.construct" in line
    (line,) = found["safe"]
    assert "ReLU has compiled graphs already" in line


@pytest.mark.slow
def test_guard_and_safe_give_the_right_gradient(tmp_path):
    found = scenario("guarding", tmp_path)
    assert found["fused"] > 1 and found["fused again"] > 1, "the defect, without a guard and after it"
    assert found["left"] == ""
    for kind in ("guarded", "safe, jit", "safe, cell"):
        assert found[kind] < 1e-5, kind


@pytest.mark.slow
def test_a_single_node_cannot_be_left_out_by_its_attribute(tmp_path):
    """Why `safe` names types: `skip` leaves the operator out of the run, not of fusion alone. Gone when exp(0) is 1."""
    assert scenario("skip", tmp_path) == [[1.0, 3.0], [1.0, 3.0]], "2 x + 1"


@pytest.mark.slow
def test_the_gradient_of_a_jit_function_in_pynative_mode(tmp_path):
    found = scenario("eager", tmp_path)
    assert found["fused"] > 0.1, "the defect"
    assert found["safe"] < 1e-5 and found["patched"] < 1e-5


def test_the_users_own_cache_folder_stands(tmp_path):
    found = scenario("litter", tmp_path, tmp_path / "mine")
    assert found["here"] == [] and (tmp_path / "mine" / "akg_kernel_meta").is_dir()
    assert not list((tmp_path / "cache").rglob("akg_kernel_meta"))


def test_kernels_go_to_the_cache_and_are_found_again(tmp_path):
    found = scenario("litter", tmp_path)
    assert found["here"] == [] and found["path"] == ""
    (kernels,) = (tmp_path / "cache" / "ascend_fixes").rglob("akg_kernel_meta")
    first = {path.name: path.stat().st_mtime_ns for path in kernels.iterdir()}
    assert any(name.endswith(".so") for name in first)
    again = scenario("litter", tmp_path)
    assert again["total"] == found["total"]
    assert {path.name: path.stat().st_mtime_ns for path in kernels.iterdir()} == first, "nothing was compiled again"


def test_an_unwritable_cache_is_replaced_by_a_temporary_folder(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    found = scenario("litter", tmp_path, XDG_CACHE_HOME=str(blocked))
    assert found["here"] == [] and blocked.read_text() == "not a folder"
