"""Tables, data-dependent operators and feeding that stay on the host and stay fast."""

# Bound here and not on first use: the graph compiler looks names up in a module's dictionary.
from ascend_fixes.files import FileError
from ascend_fixes.host._decoding import BeamResult, DecodingError, beam_search, viterbi
from ascend_fixes.host._embedding import Embedding, EmbeddingError
from ascend_fixes.host._feeding import Feed, FeedError, FeedTimeoutError, feed
from ascend_fixes.host._host_function import CallbackError, callback
from ascend_fixes.host._keys import KeysError
from ascend_fixes.host._mapping import HostMap
from ascend_fixes.host._placement import Placement, place
from ascend_fixes.host._sinking import SinkingWarning
from ascend_fixes.host._splitting import InputsError, concat, stack
from ascend_fixes.host._static import SizeError, masked_select, nonzero, top_k, unique, where
from ascend_fixes.host._table import FrozenError, Table, UnknownKeyError

__all__ = [
    "BeamResult",
    "CallbackError",
    "DecodingError",
    "Embedding",
    "EmbeddingError",
    "Feed",
    "FeedError",
    "FeedTimeoutError",
    "FileError",
    "FrozenError",
    "HostMap",
    "InputsError",
    "KeysError",
    "Placement",
    "SinkingWarning",
    "SizeError",
    "Table",
    "UnknownKeyError",
    "beam_search",
    "callback",
    "concat",
    "feed",
    "masked_select",
    "nonzero",
    "place",
    "stack",
    "top_k",
    "unique",
    "viterbi",
    "where",
]
