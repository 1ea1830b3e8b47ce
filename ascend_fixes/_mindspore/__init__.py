"""The seam: the only package that touches MindSpore's private names or asks which version is running.

Everything here is a thin accessor, in a file named after what a release of MindSpore changes:

    versions       which MindSpore, on which backend
    executors      the compilers of cells and jit functions
    graph_ir       reading a compiled graph back
    compile_cache  the persistent compile cache, and what a graph depends on
    context        the process-wide context
    cells          the inside of cells
    operators      names and kernels of operators
    precision      cast strategies and levels
    training       `mindspore.Model` and dataset iterators
    processes      processes that MindSpore forks or starts
    plugin         the Ascend part of the wheel, for the dry run

What a name means, and why it is private, stands beside it. A new release is met by running `tests/test_seam.py`
and opening the file of every name that fails.
"""

from ascend_fixes._mindspore.cells import SwiftCall, child_cells, copy_with_children, free_gru_size, on_gradient
from ascend_fixes._mindspore.compile_cache import (
    COMPILE_CACHE_FILES,
    cell_state,
    compile_cache_file,
    compile_settings,
    is_platform_type,
    is_whole_graph,
    set_compile_cache,
    set_compile_cache_directory,
    wanted_compile_cache,
)
from ascend_fixes._mindspore.context import (
    graph_kernel_flags,
    has_bfloat16,
    has_fusion_compiler,
    in_graph_mode,
    mode_set,
    saturates,
    set_graph_kernel_flags,
    set_kernel_directory,
)
from ascend_fixes._mindspore.executors import (
    CELL_COMPILE_OPTIONS,
    abandon_compilation,
    cell_compile_target,
    compilation_targets,
    compiled_part,
    compiled_phases,
    compiles_cells,
    dynamic_inputs,
    eager_gradient_target,
    has_compiled_anything,
    has_jit_graph,
    is_mutable,
    jit_call_target,
    jit_compile_target,
    jit_options,
    jit_phases,
    jit_subject,
    latest_phase,
    parsed_method,
    phase_name,
    synchronous,
    taking_gradients,
    under_jit,
)
from ascend_fixes._mindspore.graph_ir import (
    graph_inputs,
    graph_nodes,
    graph_operators,
    graph_scopes,
    graph_transfers,
    graph_writes,
    whole_graph_operators,
)
from ascend_fixes._mindspore.operators import (
    aicpu_operators,
    as_in_graphs,
    documented_platforms,
    operator_names,
    repeatable,
    run_eagerly,
    tagged_for_host,
)
from ascend_fixes._mindspore.plugin import (
    SOCS,
    around_runs,
    ascend_libraries,
    hold_ascend,
    placeholders,
    planned_memory,
    plugin_environment,
    save_only_below,
    set_soc,
    wheel_libraries,
)
from ascend_fixes._mindspore.precision import (
    auto_cast_lists,
    blanket_strategy,
    cast_strategy,
    loss_scale_manager,
    mark_amp_level,
    precision_process_target,
    pushed_strategy,
    rewrite_os_target,
)
from ascend_fixes._mindspore.processes import fork, fusion_compiler_folder
from ascend_fixes._mindspore.training import (
    data_parallel,
    model_eval_network,
    model_loss,
    model_network,
    model_targets,
    pipeline_iterators,
    set_model_eval_network,
)
from ascend_fixes._mindspore.versions import backend, build, device_name, toolkit_version, version, version_text

__all__ = [
    "CELL_COMPILE_OPTIONS",
    "COMPILE_CACHE_FILES",
    "SOCS",
    "SwiftCall",
    "abandon_compilation",
    "aicpu_operators",
    "around_runs",
    "as_in_graphs",
    "ascend_libraries",
    "auto_cast_lists",
    "backend",
    "blanket_strategy",
    "build",
    "cast_strategy",
    "cell_compile_target",
    "cell_state",
    "child_cells",
    "compilation_targets",
    "compile_cache_file",
    "compile_settings",
    "compiled_part",
    "compiled_phases",
    "compiles_cells",
    "copy_with_children",
    "data_parallel",
    "device_name",
    "documented_platforms",
    "dynamic_inputs",
    "eager_gradient_target",
    "fork",
    "free_gru_size",
    "fusion_compiler_folder",
    "graph_inputs",
    "graph_kernel_flags",
    "graph_nodes",
    "graph_operators",
    "graph_scopes",
    "graph_transfers",
    "graph_writes",
    "has_bfloat16",
    "has_compiled_anything",
    "has_fusion_compiler",
    "has_jit_graph",
    "hold_ascend",
    "in_graph_mode",
    "is_mutable",
    "is_platform_type",
    "is_whole_graph",
    "jit_call_target",
    "jit_compile_target",
    "jit_options",
    "jit_phases",
    "jit_subject",
    "latest_phase",
    "loss_scale_manager",
    "mark_amp_level",
    "mode_set",
    "model_eval_network",
    "model_loss",
    "model_network",
    "model_targets",
    "on_gradient",
    "operator_names",
    "parsed_method",
    "phase_name",
    "pipeline_iterators",
    "placeholders",
    "planned_memory",
    "plugin_environment",
    "precision_process_target",
    "pushed_strategy",
    "repeatable",
    "rewrite_os_target",
    "run_eagerly",
    "saturates",
    "save_only_below",
    "set_compile_cache",
    "set_compile_cache_directory",
    "set_graph_kernel_flags",
    "set_kernel_directory",
    "set_model_eval_network",
    "set_soc",
    "synchronous",
    "tagged_for_host",
    "taking_gradients",
    "toolkit_version",
    "under_jit",
    "version",
    "version_text",
    "wanted_compile_cache",
    "wheel_libraries",
    "whole_graph_operators",
]
