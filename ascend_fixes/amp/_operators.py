"""Which operators compute in half precision and which stay in float32, and why.

One rule: half precision is for products of matrices and convolutions, where the hardware gains and where errors of
single terms average out. Whatever can leave float16's range (6e-8 to 65504), adds up many terms or carries a mask
stays in float32. Operators in neither list (tanh, sigmoid, relu, dropout, gather, reshape, transpose, max, ...) are
bounded or only move values: they run in the type they are given.

MindSpore's own "auto" lists and those of NVIDIA's apex keep exponentials, norms, losses and sums in float32 as
well. Ours differ in three places:

* Sums and means under every name: MindSpore lists ``SumExt`` and misses ``ReduceSum``, ``ReduceMean`` and ``MeanExt``.
* Additions, products and selections are float32. There, a score minus 1e9, ``masked_fill(x, mask, -1e9)`` and the
  square of 300 are infinite in float16 (in apex and in MindSpore they take their inputs' type).
* Activations that cube or exponentiate inside (gelu, silu, mish, softplus) are float32.

The price is memory: sums of residual branches are kept in float32. ``Policy(fp16=["Add", ...])`` buys it back where
the range is known.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "LOW", "Group", "reason"]


@dataclass(frozen=True)
class Group:
    """Operators that are treated alike, and the reason for it."""

    reason: str
    names: tuple[str, ...]


LOW = (
    Group(
        "matrix products: the hardware gains most here, and sums are kept in float32 inside the kernel",
        (
            *("MatMul", "MatMulExt", "BatchMatMul", "BatchMatMulExt", "Dense", "Mm", "Mv", "Einsum", "EinsumExt"),
            *("Addmm", "Addbmm", "Addmv", "Baddbmm"),
        ),
    ),
    Group(
        "convolutions: products of matrices in another layout",
        (
            *("Conv1DExt", "Conv1DPadding", "Conv2D", "Conv2DExt", "Conv2DPadding", "Conv2DTranspose"),
            *("Conv3D", "Conv3DExt", "Conv3DPadding", "Conv3DTranspose", "ConvTranspose2D", "Convolution"),
            "ConvolutionStr",
        ),
    ),
)

FULL = (
    Group(
        "exponentials and powers leave the range for ordinary inputs: exp(12) is 162755",
        (
            *("Exp", "Exp2", "Expm1", "Pow", "PowScalarTensor", "PowTensorScalar", "Square", "SquaredDifference"),
            *("Sinh", "Cosh", "Tan", "Hypot", "Polar"),
        ),
    ),
    Group(
        "logarithms, roots and reciprocals lose small arguments: 1e-8 is zero in float16",
        (
            *("Log", "Log2", "Log10", "Log1p", "Sqrt", "Rsqrt", "Reciprocal", "Inv", "Xlogy", "XLogYScalarOther"),
            *("XLogYScalarSelf", "Xdivy", "Logit", "LogAddExp", "LogAddExp2", "ACos", "AcosExt", "Asin", "AsinExt"),
            *("Acosh", "AcoshExt", "Asinh", "AsinhExt", "Atanh", "Erfinv", "Erfc", "Lgamma", "Digamma"),
        ),
    ),
    Group(
        "softmax and its logarithm exponentiate and sum, CRF partition functions among them",
        ("Softmax", "LogSoftmax", "LogSoftmaxExt", "LogSumExp", "CumulativeLogsumexp"),
    ),
    Group(
        "activations that cube or exponentiate inside",
        (
            *("GeLU", "Gelu", "GeluExt", "FastGeLU", "FastGelu", "SiLU", "Swiglu", "Mish", "MishExt", "Softplus"),
            *("SoftplusExt", "LogSigmoid", "Elu", "EluExt", "SeLU", "SeLUExt", "CeLU"),
        ),
    ),
    Group(
        "sums add many terms: 4096 x 32 is 131072, and small terms vanish beside a large sum",
        (
            *("ReduceSum", "SumExt", "Nansum", "ReduceMean", "MeanExt", "ReduceProd", "ProdExt", "CumSum", "CumsumExt"),
            *("CumProd", "AddN", "AccumulateNV2", "Trace", "TraceExt", "Dot", "Vdot", "SegmentSum", "SegmentMean"),
            *("UnsortedSegmentSum", "SquareSumAll", "AvgPool1D", "AvgPool2D", "AvgPool3DExt"),
        ),
    ),
    Group(
        "norms and variances sum squares",
        (
            *("LayerNorm", "LayerNormExt", "LayerNormV3", "RmsNorm", "AddRmsNorm", "AddLayerNormV2", "BatchNorm"),
            *("BatchNormExt", "GroupNorm", "InstanceNorm", "Norm", "LpNorm", "LpNormV2", "L2Loss", "L2Normalize"),
            *("LinalgVectorNorm", "EuclideanNorm", "NuclearNorm", "Renorm", "Std", "ReduceStd", "StdMean", "Var"),
            *("VarMean", "Cdist", "Pdist"),
        ),
    ),
    Group(
        "losses: their value is multiplied by the loss scale, their gradient is where every overflow starts",
        (
            *("BCEWithLogitsLoss", "BinaryCrossEntropy", "SigmoidCrossEntropyWithLogits", "CrossEntropyLoss"),
            *("SoftmaxCrossEntropyWithLogits", "SparseSoftmaxCrossEntropyWithLogits", "NLLLoss", "NLLLoss2d"),
            *("KLDiv", "KLDivLoss", "L1LossExt", "MSELossExt", "SmoothL1Loss", "SoftMarginLoss", "MultiMarginLoss"),
            *("MultilabelMarginLoss", "TripletMarginLoss", "CosineEmbeddingLoss", "CTCLoss", "CTCLossV2", "RNNTLoss"),
        ),
    ),
    Group(
        "sums, products and quotients of two: 300 x 300 is 90000, and additive masks of -1e9 are written with them",
        (
            *("Add", "AddExt", "Sub", "SubExt", "SubScalar", "Mul", "Muls", "Div", "Divs", "DivMod", "DivMods"),
            *("RealDiv", "DivNoNan", "MulNoNan", "BiasAdd", "Addcmul", "AddcmulExt", "Addcdiv", "AddcdivExt", "Lerp"),
            *("LerpScalar", "Outer", "Ger", "Cross"),
        ),
    ),
    Group(
        "masks: a filler such as -1e9 is infinite in float16",
        (
            *("MaskedFill", "MaskedFillScalar", "MaskedScatter", "Select", "SelectV2", "Fill", "IndexFill"),
            *("IndexFillScalar", "IndexFillTensor", "ClampScalar", "ClampTensor", "Maximum", "Minimum"),
        ),
    ),
    Group(
        "inputs of one type only: float32, because one of them may be",
        (
            *("Stack", "StackExt", "Concat", "ScatterNd", "ScatterNdUpdate", "ScatterNdAdd", "TensorScatterUpdate"),
            *("TensorScatterAdd", "TensorScatterSub", "TensorScatterMax", "TensorScatterMin", "TensorScatterElements"),
            *("Scatter", "ScatterValue", "ScatterAdd", "ScatterAddExt", "ScatterUpdate", "IndexAdd", "IndexAddExt"),
            *("LSTM", "GridSampler2D", "GridSampler3D"),
        ),
    ),
)


def reason(name: str) -> str:
    """Why an operator is in the list it is in; "" for an operator that runs in the type it is given."""
    for group in (*LOW, *FULL):
        if name in group.names:
            return group.reason
    return ""
