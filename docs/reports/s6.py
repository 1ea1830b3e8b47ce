"""Two threads that call one cell for the first time fail, or hang. Wanted: a lock around compiler and runner."""

import threading

import mindspore as ms
import numpy as np
from mindspore import nn

ms.set_context(mode=ms.GRAPH_MODE)
net, ends = nn.SequentialCell([nn.Dense(16, 16) for _ in range(6)]), []


def call(lengths):
    try:
        for length in lengths:
            net(ms.Tensor(np.ones((2, length, 16), np.float32))).asnumpy()
        ends.append("ok")
    except Exception as error:
        ends.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}")


threads = [threading.Thread(target=call, args=(lengths,), daemon=True) for lengths in ((3, 5, 7), (4, 6, 8))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(20)
if ends != ["ok", "ok"]:
    raise SystemExit(f"WRONG: {'; '.join(ends) or 'neither thread came back within 20 s'}")
