"""The operators and passes that graph-kernel fusion is known, or reported, to get wrong.

Data only. A quirk that a probe of the catalogue shows is `verified`; one taken
from a public page is not, and takes part in nothing until it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from ascend_fixes import _mindspore

__all__ = ["LEARNED", "QUIRKS", "Quirk"]

LEARNED = "learned"  # the source of a row that a search on this machine has found


@dataclass(frozen=True)
class Quirk:
    """One thing that fusion gets wrong, and what leaving it out looks like.

    Attributes:
        keep_out: what to leave out, as `ascend_fixes.fusion.guard` takes it.
        backends: where it was seen.
        since, before: the half-open range of MindSpore versions; the ends of what was tried, or of what the
            report says. An empty ``since`` or ``before`` means that no such end is known.
        dtypes: the dtypes concerned; empty where the report does not say.
        symptom: what goes wrong.
        source: the id of the defect whose probe shows it, `LEARNED`, or where it was reported.
        removal: when this row can go.
        verified: it was seen by running it, by the probe that `source` names.
        clusters: what leaving it out changed when nets were compiled for Ascend (dry run, 2.10.0, O1; nothing executed);
            "" where that was not tried.
    """

    keep_out: tuple[str, ...]
    backends: tuple[str, ...]
    since: tuple[int, ...]
    before: tuple[int, ...]
    dtypes: tuple[str, ...]
    symptom: str
    source: str
    removal: str
    verified: bool
    clusters: str = ""

    @property
    def here(self) -> bool:
        """Does the row concern this backend and this version of MindSpore?"""
        version = _mindspore.version()
        in_range = self.since <= version and (not self.before or version < self.before)
        return in_range and _mindspore.backend() in self.backends


_REPORT = "the report is answered, or a run on the device does not show it"

QUIRKS = (
    Quirk(
        keep_out=("cluster:Transpose",),
        backends=("CPU",),
        since=(2, 7),
        before=(2, 11),
        dtypes=("float32",),
        symptom="fused with a Reshape: gradient of the attention key projection off by tens of times its largest value, and different "
        "from run to run",
        source="F1",
        removal="the probe of F1 finds the gradient right",
        verified=True,
    ),
    Quirk(
        keep_out=("cluster:Transpose",),
        backends=("CPU",),
        since=(2, 7),
        before=(2, 11),
        dtypes=("float16",),
        symptom="gradient of an unrolled GRU is NaN",
        source="F2",
        removal="the probe of F2 finds the gradient finite",
        verified=True,
    ),
    Quirk(
        keep_out=("cluster:Exp", "cluster:Tanh", "expand:GeLU", "expand:GeLUGrad"),
        backends=("CPU",),
        since=(2, 7),
        before=(2, 11),
        dtypes=("float32",),
        symptom="fused exp and tanh are off by up to 4e-4, a fused GELU's gradient by 5e-5 of its largest value",
        source="F3",
        removal="the probe of F3 finds exp and tanh within 2e-5",
        verified=True,
    ),
    Quirk(
        keep_out=("cluster:Cast",),
        backends=("CPU",),
        since=(2, 7),
        before=(2, 11),
        dtypes=("float16",),
        symptom="casts in the gradient of mixed precision break the compiler: Response is empty",
        source="F6",
        removal="the probe of F6 compiles",
        verified=True,
    ),
    Quirk(
        keep_out=("expand:Adam",),
        backends=("CPU",),
        since=(2, 7),
        before=(2, 11),
        dtypes=("float32",),
        symptom="Adam at a rate from a schedule is expanded, fused with a Reshape and run twice",
        source="F7",
        removal="the probe of F7 counts one update a step",
        verified=True,
    ),
    Quirk(
        keep_out=("cluster:Pow", "cluster:Select"),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="OpenSora's loss does not converge under DVM",
        source="https://github.com/mindspore-lab/mindone (OpenSora)",
        removal=_REPORT,
        verified=False,
        clusters="changes them: Pow and Select leave their fused kernels",
    ),
    Quirk(
        keep_out=("packet:Reshape",),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="OpenSora with dynamic shapes",
        source="https://github.com/mindspore-lab/mindone (OpenSora)",
        removal=_REPORT,
        verified=False,
        clusters="changes nothing on the nets tried, of static shapes",
    ),
    Quirk(
        keep_out=("expand:Softmax", "expand:Dropout"),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="mindformers BERT pre-training leaves these two unexpanded",
        source="https://gitee.com/mindspore/mindformers (r0.3, BERT)",
        removal=_REPORT,
        verified=False,
        clusters="changes nothing on the nets tried: Softmax is not composed; no net had a Dropout in training",
    ),
    Quirk(
        keep_out=("cluster:ReduceMax", "cluster:Reshape"),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="YOLOv3 leaves these two out",
        source="https://gitee.com/mindspore/models (YOLOv3)",
        removal=_REPORT,
        verified=False,
        clusters="changes nothing on the nets tried: neither is in a fused kernel",
    ),
    Quirk(
        keep_out=("pass:gather_pre_rms_norm_fusion",),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="vLLM on MindSpore leaves this pass out",
        source="https://gitee.com/mindspore/vllm-mindspore",
        removal=_REPORT,
        verified=False,
        clusters="changes nothing on the nets tried, which have no RMS norm",
    ),
    Quirk(
        keep_out=("cluster:Sqrt",),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="AKG fails to build the gradient of sqrt(reduce_sum)",
        source="https://github.com/mindspore-ai/mindspore/issues/59",
        removal=_REPORT,
        verified=False,
        clusters="changes them: Sqrt leaves its fused kernels",
    ),
    Quirk(
        keep_out=("cluster:Select",),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="E40021: Select does not compile",
        source="https://github.com/candle-org/MindAct/issues/1448",
        removal=_REPORT,
        verified=False,
        clusters="changes them: Select leaves its fused kernels",
    ),
    Quirk(
        keep_out=("expand:LayerNorm",),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="a fused layer norm overflows the unified buffer (seen from PyTorch, on the same device)",
        source="https://github.com/Ascend/pytorch/issues/102",
        removal=_REPORT,
        verified=False,
        clusters="changes nothing on the nets tried: it is not composed",
    ),
    Quirk(
        keep_out=("expand:GeLU", "expand:Dropout"),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="ports of BERT and ALBERT take the device's own GELU and dropout, as composed ones go wrong",
        source="reported: Computer Science 51(1), 2024, the study that ported ALBERT, RNNSearch, BERT-CRF and TextING",
        removal=_REPORT,
        verified=False,
        clusters="changes them: GeLU is no longer composed; its gradient still is (expand:GeLUGrad)",
    ),
    Quirk(
        keep_out=("cluster:Concat",),
        backends=("Ascend",),
        since=(),
        before=(),
        dtypes=(),
        symptom="a GRU port multiplies each input by itself: the product of their concatenation fuses wrongly",
        source="reported: Computer Science 51(1), 2024, the study that ported ALBERT, RNNSearch, BERT-CRF and TextING",
        removal=_REPORT,
        verified=False,
        clusters="changes nothing on the nets tried: it is not in a fused kernel",
    ),
)
