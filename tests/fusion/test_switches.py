"""CANN's switch file: the form that the vendor's page gives."""

from __future__ import annotations

import json

import pytest

from ascend_fixes import fusion


def test_names_are_switched_off_and_mappings_kept(tmp_path):
    path = tmp_path / "fusion.cfg"
    options = fusion.write_switch_file(
        path, graph={"ALL": False, "SoftmaxFusionPass": True}, ub=["TbeEltwiseFusionPass"]
    )
    assert json.loads(path.read_text()) == {
        "Switch": {
            "GraphFusion": {"ALL": "off", "SoftmaxFusionPass": "on"},
            "UBFusion": {"TbeEltwiseFusionPass": "off"},
        }
    }
    assert options == {"global": {"ge.fusionSwitchFile": str(path)}}


def test_a_kind_that_is_not_named_is_left_out(tmp_path):
    fusion.write_switch_file(tmp_path / "fusion.cfg", graph=["ALL"])
    assert json.loads((tmp_path / "fusion.cfg").read_text()) == {"Switch": {"GraphFusion": {"ALL": "off"}}}


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({}, "name no fusion"),
        ({"graph": "ALL"}, r"write \['ALL'\]"),
        ({"graph": ["a b"]}, "graph: 'a b'"),
        ({"ub": {"ALL": "off"}}, "ub: 'ALL': 'off'"),
        ({"ub": [3]}, "ub: 3"),
    ],
)
def test_errors_come_before_anything_is_written(tmp_path, arguments, said):
    with pytest.raises(fusion.SwitchNameError, match=said):
        fusion.write_switch_file(tmp_path / "fusion.cfg", **arguments)
    assert list(tmp_path.iterdir()) == []
