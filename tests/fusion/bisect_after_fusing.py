"""Run by test_search in a process of its own: a search after it has compiled and fused, kernels cold, and gone elsewhere."""

import os

import bisect_cases
import mindspore as ms

from ascend_fixes import fusion

ms.set_context(mode=ms.GRAPH_MODE)
cell, x = bisect_cases.attention()
cell(x)
ms.set_context(enable_graph_kernel=True)
ms.value_and_grad(bisect_cases.attention()[0])(x)  # what it returns is not waited for
os.mkdir("elsewhere")
os.chdir("elsewhere")
print(fusion.bisect(cell, x).keep_out)
print(fusion.bisect(*bisect_cases.healthy()).keep_out)
print(cell(x).shape)
