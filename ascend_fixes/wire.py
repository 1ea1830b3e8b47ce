"""Reads single fields of a message in the format of protocol buffers, and passes over all others.

MindSpore has the protobuf package parse in Python, every field of every message: most of a second for the graph of a training
step, at every compilation that is looked at. Of such a graph two fields a node are wanted. The format:
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["fields", "text"]

_FIXED = {1: 8, 5: 4}  # bytes of a value, by its wire type


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The numbers and contents of a message's fields that are strings, bytes or messages, in order.

    Raises:
        ValueError: the message is cut off, or is none.
    """
    place, end = 0, len(message)
    while place < end:
        key, place = _number(message, place)
        kind = key & 7
        if kind == 2:
            size, place = _number(message, place)
            if place + size > end:
                raise ValueError(f"a field of {size} bytes goes beyond the message's end")
            yield key >> 3, message[place : place + size]
            place += size
        elif kind == 0:
            _, place = _number(message, place)
        elif kind in _FIXED:
            place += _FIXED[kind]
        else:
            raise ValueError(f"wire type {kind} is not one of protocol buffers' that are in use")


def text(content: memoryview) -> str:
    """A string."""
    return bytes(content).decode("utf-8")


def _number(message: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, lowest first, and the place after it."""
    value = shift = 0
    while True:
        if place == len(message):
            raise ValueError("a number goes beyond the message's end")
        byte = message[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
