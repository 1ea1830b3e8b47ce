"""shapes: ragged lengths under a bounded number of compiled graphs."""

from ascend_fixes.shapes._bucketed import BucketedCell, bucketed, padding_counts
from ascend_fixes.shapes._bucketing import PaddingCounts
from ascend_fixes.shapes._buckets import Buckets, LengthError, SizesError, attention_cost
from ascend_fixes.shapes._check_packing import PackingCheckError, PackingLeak, PackingReport, check_packing
from ascend_fixes.shapes._check_padding import Leak, PaddingReport, check_padding
from ascend_fixes.shapes._compile_cache import CacheCounts, CompileCache, CompileCacheError
from ascend_fixes.shapes._dataset import BucketDataset, bucket_dataset, spread
from ascend_fixes.shapes._epochs import DatasetError, StateError
from ascend_fixes.shapes._garbage import PaddingCheckError
from ascend_fixes.shapes._graphs import Graph, GraphLimitError, RecompilationWarning, graphs, limit_graphs
from ascend_fixes.shapes._grid import Grid
from ascend_fixes.shapes._packed import PackedDataset, pack_dataset, segment_mask, unpack
from ascend_fixes.shapes._packing import Packing, PackingError, pack
from ascend_fixes.shapes._padding import PadValueError
from ascend_fixes.shapes._ragged import AxesError, CellTypeError
from ascend_fixes.shapes._suspects import Suspect
from ascend_fixes.shapes._warm import WarmReport, warm

PlanError = AxesError  # its former name

__all__ = [
    "AxesError",
    "BucketDataset",
    "BucketedCell",
    "Buckets",
    "CacheCounts",
    "CellTypeError",
    "CompileCache",
    "CompileCacheError",
    "DatasetError",
    "Graph",
    "GraphLimitError",
    "Grid",
    "Leak",
    "LengthError",
    "PackedDataset",
    "Packing",
    "PackingCheckError",
    "PackingError",
    "PackingLeak",
    "PackingReport",
    "PadValueError",
    "PaddingCheckError",
    "PaddingCounts",
    "PaddingReport",
    "RecompilationWarning",
    "SizesError",
    "StateError",
    "Suspect",
    "WarmReport",
    "attention_cost",
    "bucket_dataset",
    "bucketed",
    "check_packing",
    "check_padding",
    "graphs",
    "limit_graphs",
    "pack",
    "pack_dataset",
    "padding_counts",
    "segment_mask",
    "spread",
    "unpack",
    "warm",
]
