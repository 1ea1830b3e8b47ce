"""The report of an audit: fixed vocabularies, and three forms that lose nothing."""

from __future__ import annotations

import dataclasses
import json

import pytest

from ascend_fixes.auditing import CERTAINTIES, FAMILIES, KINDS, AuditReport, Hazard
from ascend_fixes.errors import UnknownNameError


def hazard(**changes):
    fields = dict(
        family="shapes",
        kind="length-written-in",
        operator="Reshape",
        cell="encoder.3",
        source="model.py:31",
        reason="a <length> of 8 is written in",
        evidence="width 7 fails",
        certainty="ran and failed",
        cure='net = factory(8)\nshapes.bucketed(net, {"ids": 1})',
    )
    return Hazard(**{**fields, **changes})


REPORT = AuditReport(
    "Tagger",
    "Ascend910B",
    (hazard(), hazard(certainty="read only", kind="unrolled-recurrence", reason="a loop")),
    {"to-float": "no cell has it"},
    {"fusion-inexact": "no time left", "fusion-fails": "no time left"},
    axes={"ids": 1},
    pad={"ids": 0},
    masks=("mask",),
    notes=("ids is ragged",),
    seconds=3.0,
)


def test_every_kind_has_a_family_and_a_meaning():
    assert {kind.family for kind in KINDS.values()} == set(FAMILIES)
    assert all(kind.means for kind in KINDS.values())


@pytest.mark.parametrize("wrong", [{"kind": "lenght-written-in"}, {"family": "amp"}, {"certainty": "sure"}])
def test_what_is_not_in_the_vocabularies_is_refused(wrong):
    with pytest.raises(UnknownNameError):
        hazard(**wrong)


def test_a_misspelt_kind_is_told_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'length-written-in'"):
        hazard(kind="lenght-written-in")


def test_only_what_was_read_is_uncertain():
    assert [hazard(certainty=certainty).certain for certainty in CERTAINTIES] == [True, True, True, False]
    assert len(REPORT.certain) == 1


def test_json_holds_everything():
    read = json.loads(REPORT.to_json())
    assert set(read) == {field.name for field in dataclasses.fields(AuditReport)}
    assert read["hazards"][0] == dataclasses.asdict(hazard())
    assert read["cleared"] == {"to-float": "no cell has it"}


def test_the_text_names_everything():
    text = REPORT.show()
    for part in (
        "2 hazards, 1 of them seen",
        "encoder.3",
        "model.py:31",
        "width 7 fails",
        "net = factory(8)",
        "to-float",
    ):
        assert part in text
    assert "fusion-inexact, fusion-fails: no time left" in text


def test_the_page_is_escaped():
    page = REPORT.to_html()
    assert "a &lt;length&gt; of 8" in page and "<length>" not in page
    assert page.startswith("<!doctype html>") and "fusion-inexact" in page
