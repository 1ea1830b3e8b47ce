"""What an audit looks for: the fixed list of kinds, each of one family, and the four kinds of certainty."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CERTAINTIES", "COMPILED", "DIFFERED", "FAILED", "FAMILIES", "KINDS", "READ", "Kind"]

FAMILIES = ("shapes", "host", "fusion", "amp")

FAILED = "ran and failed"
DIFFERED = "ran and differed"  # the evidence says by how much
COMPILED = "compiled for Ascend and refused"
READ = "read only"
CERTAINTIES = (FAILED, DIFFERED, COMPILED, READ)
"""How a hazard is known, surest first. Only what is read may be wrong about the cell."""


@dataclass(frozen=True)
class Kind:
    """A kind of hazard: its family, and what it is in one sentence."""

    family: str
    means: str


_SHAPES = {
    "length-written-in": "a length, or rows times length, is a number in the model: another length fails or means something else",
    "padding-leak-output": "an output's own part changes with what stands in the padding",
    "padding-leak-state": "a final state is that of the padding, not of a row's last own step",
    "padding-leak-loss": "the loss changes with what stands in the padding",
    "padding-leak-gradient": "outputs are clean, but parameters get gradients from the padding",
    "recompile-ragged": "an argument has another shape at another call of a training script: each one compiles",
    "recompile-scalar": "a Python value among the arguments is part of the graph: every new value compiles",
    "recompile-container": "Tensors in a tuple or list are constants of the graph: every call compiles",
    "recompile-dict": "Tensors in a dict are constants of the graph: every call compiles",
    "recompile-function": "a function under mindspore.jit compiles for every new shape",
    "unrolled-recurrence": "a loop over positions is unrolled: the graph grows with the length",
}
_AMP = {
    "to-float": "a cell with .to_float: float32 disables a policy there, float16 defeats fp32=[...]",
    "cast-in-construct": "construct casts to half precision itself, whatever the policy says",
    "constant-beyond-float16": "a constant that float16 turns into infinity",
    "exp-without-maximum": "exponentials are summed without the maximum taken off: they overflow for scores that are finite",
    "single-element-softmax": "a softmax over one element is 1 whatever it is given: what feeds it never trains",
    "own-bprop": "a cell with a gradient of its own, which mixed precision does not reach",
    "not-an-overflow": "an infinite or NaN value that no precision cures: 0/0, the logarithm of 0, infinity minus infinity",
    "loss-scale": "a loss scale that does not run here, leaves its range, or never moves",
    "forward-state": "the forward pass writes parameters, which a skipped step must take back",
    "overflow": "a value leaves float16's range under a policy",
}
_HOST = {
    "value-dependent-shape": "a shape is known only when the values are",
    "missing-kernel-cpu": "an operator has no kernel on CPU",
    "missing-kernel-ascend": "an operator has no kernel on Ascend",
    "aclop-per-shape": "an operator whose kernel a device builds for every shape it meets",
    "string": "strings have no place on a device",
    "sinking": "data that is to be sunk to the device is ragged or holds strings: the device waits for it in vain",
    "hidden-size": "a layer that Ascend takes only with a hidden size divisible by 16",
    "dtype": "a type that an operator does not take on Ascend",
}
_FUSION = {
    "fusion-inexact": "the fused graph computes something else",
    "fusion-fails": "the fused graph does not compile, or crashes",
}

KINDS = {
    name: Kind(family, means)
    for family, kinds in zip(FAMILIES, (_SHAPES, _HOST, _FUSION, _AMP))
    for name, means in kinds.items()
}
"""Every kind of hazard by its name."""
