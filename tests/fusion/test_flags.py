"""The flag string: nothing is lost, lists are united, contradictions are errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes.fusion._flags import FlagConflictError, FlagFileError, merge, opt_level, parse, render

OPERATORS = ("Add", "Cast", "Exp", "Mul", "Reshape", "Select", "Softmax", "Transpose")
lists = st.lists(st.sampled_from(OPERATORS), min_size=1, max_size=4, unique=True)
disabling = st.dictionaries(
    st.sampled_from(("disable_cluster_ops", "disable_expand_ops", "disable_pass", "disable_packet_ops")),
    lists,
    max_size=3,
)


def text_of(flags: dict[str, list[str]]) -> str:
    return " ".join(f"--{key}={','.join(values)}" for key, values in flags.items())


def members(text: str) -> set[tuple[str, str]]:
    return {(flag.key, value) for flag in parse(text, "") for value in flag.values or ("",)}


@given(st.lists(disabling, min_size=1, max_size=4))
def test_merging_keeps_every_member_of_every_party(parties):
    texts = [text_of(party) for party in parties]
    merged = merge([flag for index, text in enumerate(texts) for flag in parse(text, str(index))])
    assert members(render(merged)) == set().union(*map(members, texts))
    assert len({flag.key for flag in merged}) == len(merged), "a key that is given twice loses one of its lists"
    for flag in merged:
        for value, origin in zip(flag.values, flag.origins):
            assert (flag.key, value) in members(texts[int(origin)])


@given(disabling)
def test_merging_twice_changes_nothing(party):
    once = merge(parse(text_of(party), "user"))
    assert merge([*once, *parse(render(once), "again")]) == once


@given(lists, lists)
def test_a_list_that_is_asked_for_and_excluded_is_a_conflict(wanted, excluded):
    flags = parse(f"--enable_cluster_ops={','.join(wanted)}", "set_context")
    flags += parse(f"--disable_cluster_ops={','.join(excluded)}", "guard")
    if set(wanted) & set(excluded):
        with pytest.raises(FlagConflictError, match=r"guard.*contradicts.*set_context"):
            merge(flags)
    else:
        assert len(merge(flags)) == 2


@pytest.mark.parametrize(
    "one, other",
    [
        ("--opt_level=1", "--opt_level=2"),
        ("--kernel_generator=AKG", "--kernel_generator=DVM"),
        ("--enable_cluster_ops_only=Add", "--enable_cluster_ops_only=Add,Mul"),
        ("--enable_expand_ops_only=Softmax", "--disable_expand_ops=Softmax"),
        ("--enable_pass=a", "--disable_pass=a"),
    ],
)
def test_conflict_names_both_sides(one, other):
    with pytest.raises(FlagConflictError) as caught:
        merge([*parse(one, "MS_DEV_GRAPH_KERNEL_FLAGS"), *parse(other, "set_context")])
    assert "MS_DEV_GRAPH_KERNEL_FLAGS" in str(caught.value) and "set_context" in str(caught.value)


def test_unknown_and_bare_flags_pass_through():
    text = "--dump_as_text --some_new_flag=x=1 --opt_level=1"
    assert render(merge(parse(text, "user"))) == text
    assert opt_level(parse(text, "user")) == 1 and opt_level(()) is None


def test_a_flag_file_is_folded_in(tmp_path):
    path = tmp_path / "flags.json"
    path.write_text(json.dumps({"disable_cluster_ops": "Exp,Tanh", "opt_level": "1"}))
    merged = merge(parse(f"--path={path} --disable_cluster_ops=Transpose", "set_context"))
    assert members(render(merged)) == {
        ("disable_cluster_ops", "Exp"),
        ("disable_cluster_ops", "Tanh"),
        ("disable_cluster_ops", "Transpose"),
        ("opt_level", "1"),
    }
    assert any("flags.json" in origin for flag in merged for origin in flag.origins)


@pytest.mark.parametrize("content", [None, "{", "[1]", '{"opt_level": 1}'])
def test_a_damaged_flag_file_is_named(tmp_path, content):
    path = tmp_path / "flags.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FlagFileError, match="flags.json"):
        parse(f"--path={path}", "set_context")
