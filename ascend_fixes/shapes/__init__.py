"""shapes: ragged lengths under a bounded number of compiled graphs."""

from ascend_fixes.shapes.bucketed import BucketedCell, PaddingCounts, bucketed, padding_counts
from ascend_fixes.shapes.buckets import Buckets, LengthError, SizesError, attention_cost
from ascend_fixes.shapes.check_padding import Leak, PaddingCheckError, PaddingReport, check_padding
from ascend_fixes.shapes.compile_cache import CacheCounts, CompileCache, CompileCacheError
from ascend_fixes.shapes.dataset import BucketDataset, DatasetError, StateError, bucket_dataset
from ascend_fixes.shapes.graphs import Graph, GraphLimitError, RecompilationWarning, graphs, limit_graphs
from ascend_fixes.shapes.grid import Grid
from ascend_fixes.shapes.padding import PadValueError
from ascend_fixes.shapes.plan import CellTypeError, PlanError
from ascend_fixes.shapes.warm import WarmReport, warm

__all__ = [
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
    "PadValueError",
    "PaddingCheckError",
    "PaddingCounts",
    "PaddingReport",
    "PlanError",
    "RecompilationWarning",
    "SizesError",
    "StateError",
    "WarmReport",
    "attention_cost",
    "bucket_dataset",
    "bucketed",
    "check_padding",
    "graphs",
    "limit_graphs",
    "padding_counts",
    "warm",
]
