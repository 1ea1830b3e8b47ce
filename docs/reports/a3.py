"""O2, O3 and auto lose finite results: exponentials, sums and masks run in float16. Wanted: they stay in float32."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops


class Exp(nn.Cell):
    def construct(self, x):
        return ops.exp(x)


class Sum(nn.Cell):
    def construct(self, x):
        return x.sum()


class MaskedScores(nn.Cell):
    def construct(self, x):
        return ops.softmax(ops.matmul(x, x) - 1e9, -1)


ms.set_context(mode=ms.GRAPH_MODE)
cases = {"exp(12)": (Exp, np.full(1, 12.0)), "a sum of 4096 x 32": (Sum, np.full(4096, 32.0))}
cases["softmax(x x - 1e9)"] = (MaskedScores, np.zeros((4, 4)))
wrong = []
for name, (make, value) in cases.items():
    x = ms.Tensor(value, ms.float32)
    for level in ("O2", "O3", "auto"):
        found = ms.amp.auto_mixed_precision(make(), level)(x).asnumpy().ravel()[0]
        if not np.isfinite(found):
            wrong.append(f"{level}: {name} is {found}")
if wrong:
    raise SystemExit(f"WRONG: {'; '.join(wrong)}")
