"""`bucket_batch_by_length` pads to boundary - 1 and has no way to say what becomes of longer samples.

Wanted: a boundary that is the padded length, and an argument for what is longer.
"""

import mindspore.dataset as ds
import numpy as np

samples = [(np.ones(length, np.int32),) for length in (3, 7, 8, 15)]
batches = ds.GeneratorDataset(samples, ["ids"], shuffle=False).bucket_batch_by_length(
    ["ids"], [8, 16], [1, 1, 1], element_length_function=len, pad_info={"ids": ([None], 0)}, pad_to_bucket_boundary=True
)
widths = [batch[0].shape[1] for batch in batches.create_tuple_iterator(num_epochs=1, output_numpy=True)]
if sorted(set(widths)) != [8, 16]:
    raise SystemExit(f"WRONG: boundaries [8, 16] pad to {sorted(set(widths))}; a sample of 8 goes to the next bucket")
