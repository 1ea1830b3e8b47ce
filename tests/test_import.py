"""What ``import ascend_fixes`` does: nothing that anybody could notice."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

POSING_AS_NUMPY_2 = """
import sys, types
sys.modules["numpy"] = types.SimpleNamespace(__version__="2.3.5")
import ascend_fixes
"""


def run(code, cwd):
    """The JSON that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_import_is_light(tmp_path):
    found = run(
        """
        import json, sys
        import ascend_fixes
        unwanted = ("mindspore", "torch", "matplotlib", "examples", "hypothesis", "ascend_fixes.amp")
        print(json.dumps([name for name in unwanted if name in sys.modules]))
        """,
        tmp_path,
    )
    assert found == []
    assert list(tmp_path.iterdir()) == []


def test_import_and_the_toolboxes_change_nothing_in_mindspore(tmp_path):
    found = run(
        """
        import json, sys
        import mindspore, mindspore.amp, mindspore.nn, mindspore.train, mindspore.dataset
        def everything():
            modules = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "mindspore"}
            values = [value for module in modules.values() for value in list(vars(module).values())]
            classes = {id(value): value for value in values if isinstance(value, type)
                       and str(getattr(value, "__module__", "")).split(".")[0] == "mindspore"}
            return modules, {(id(owner), key): id(value) for owner in [*modules.values(), *classes.values()]
                             for key, value in list(vars(owner).items()) if not key.startswith("__")}
        modules, before = everything()
        before_mode = mindspore.get_context("mode")
        import ascend_fixes
        from ascend_fixes import amp, fusion, host, shapes
        ascend_fixes.status()
        after = everything()[1]
        changed = [key for key in before if after.get(key) != before[key]]
        unwanted = [name for name in ("torch", "matplotlib", "examples", "hypothesis") if name in sys.modules]
        print(json.dumps([len(changed), unwanted, before_mode == mindspore.get_context("mode")]))
        """,
        tmp_path,
    )
    assert found == [0, [], True]


def test_import_adds_few_modules_to_mindspore(tmp_path):
    """What it costs, without a clock."""
    code = """
        import json, sys
        import mindspore
        before = set(sys.modules)
        import ascend_fixes
        print(json.dumps(sorted(set(sys.modules) - before)))
    """
    added = run(code, tmp_path)
    assert len(added) < 10 and all(name.startswith("ascend_fixes") for name in added), added


def test_numpy_2_is_refused_with_the_remedy(tmp_path):
    done = subprocess.run([sys.executable, "-c", POSING_AS_NUMPY_2], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: NumPy 2.3.5") and "pip install 'numpy<2'" in last


def test_public_names():
    import ascend_fixes

    assert all(getattr(ascend_fixes, name) is not None for name in ascend_fixes.__all__)
    assert set(ascend_fixes.__all__) <= set(dir(ascend_fixes))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ascend_fixes.nothing
