"""The reader of single fields in protocol buffers, against the protobuf package's own writer."""

from __future__ import annotations

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given
from hypothesis import strategies as st

from ascend_fixes import wire

TEXTS = st.text(max_size=300)


@given(st.lists(TEXTS), TEXTS, st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False))
def test_fields_are_those_that_were_written(dependencies, package, number, double):
    message = descriptor_pb2.FileDescriptorProto(package=package, dependency=dependencies)
    message.message_type.add(name="inner").field.add(number=number)
    option = message.options.uninterpreted_option.add(double_value=double, negative_int_value=number)
    option.string_value = b"\x00\xff"
    found = list(wire.fields(memoryview(message.SerializeToString())))
    assert [wire.text(content) for number, content in found if number == 3] == dependencies
    assert [wire.text(content) for number, content in found if number == 2] == [package]
    (inner,) = (content for number, content in found if number == 4)
    assert wire.text(dict(wire.fields(inner))[1]) == "inner"
    (options,) = (content for number, content in found if number == 8)
    (read,) = (content for _, content in wire.fields(options))
    assert [bytes(content) for _, content in wire.fields(read)] == [b"\x00\xff"]


@given(st.lists(TEXTS, min_size=1), st.data())
def test_a_message_that_is_cut_off_is_refused_or_ends_between_fields(dependencies, data):
    whole = descriptor_pb2.FileDescriptorProto(dependency=dependencies).SerializeToString()
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        found = [wire.text(content) for _, content in wire.fields(memoryview(cut))]
    except ValueError:
        return
    assert found == dependencies[: len(found)] and len(found) < len(dependencies)


@given(st.binary(max_size=200))
def test_anything_else_ends(content):
    try:
        list(wire.fields(memoryview(content)))
    except ValueError as error:
        assert str(error)


def test_a_kind_that_is_not_in_use_is_named():
    with pytest.raises(ValueError, match="wire type 3"):
        list(wire.fields(memoryview(bytes([1 << 3 | 3]))))
