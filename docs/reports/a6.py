"""`all_finite` accepts 65504, which is what a saturating device (910A) makes of every overflow. Values as such a device has them."""

import numpy as np
from mindspore import Tensor, amp

overflowed = Tensor(np.array([65504.0, 1.0, -65504.0], np.float16))
if bool(amp.all_finite((overflowed,)).asnumpy()):
    raise SystemExit("WRONG: all_finite accepts a gradient in which two of three values have overflowed")
