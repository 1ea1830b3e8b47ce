"""`DynamicLossScaler` has no maximum, cannot go below 1, and computes in the loss's own type."""

import mindspore as ms
from mindspore import Tensor, amp

scaler = amp.DynamicLossScaler(2.0**16, 2, 1)
for _ in range(130):
    scaler.adjust(Tensor(True))
grown = float(scaler.scale_value.asnumpy())
scaled = float(amp.DynamicLossScaler(2.0**17, 2, 1000).scale(Tensor(0.5, ms.float16)).asnumpy())
(gradient,) = amp.DynamicLossScaler(2.0**25, 2, 1000).unscale((Tensor([32768.0], ms.float16),))
if grown > 2.0**32 or scaled == float("inf") or float(gradient.asnumpy()[0]) == 0:
    raise SystemExit(
        f"WRONG: the scale is {grown:.2g} after 130 finite steps; a float16 loss of 0.5 at 2**17 is {scaled}; "
        f"a float16 gradient of 32768 at 2**25 is {gradient.asnumpy()[0]}"
    )
