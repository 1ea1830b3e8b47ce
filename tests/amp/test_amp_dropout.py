"""Random numbers of a training step: what a skipped step does to them, and what makes a resumed run the same."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from amp_cells import Losing, MaskGiven
from mindspore import Tensor, nn

from ascend_fixes.amp import LossScaler, TrainStep

X = Tensor(2.0 ** np.arange(16).astype(np.float32))  # a sum tells which terms are in it
STILL = 1e-30  # a learning rate that changes no weight


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    yield request.param
    ms.set_context(mode=ms.GRAPH_MODE)


def made(net: nn.Cell, rate: float = STILL) -> TrainStep:
    return TrainStep(net, nn.SGD(net.trainable_params(), rate), LossScaler(4.0)).set_train()


def losses(step: TrainStep, faults: list[float]) -> list[float]:
    return [float(step(X, Tensor(np.float32(fault))).loss) for fault in faults]


def test_no_saved_state_brings_masks_back(mode):
    """The generator of a layer is in its kernel, where MindSpore's own functions do not reach."""
    ms.set_seed(1)
    step = made(Losing())
    state = ms.get_rng_state().asnumpy()
    wanted = losses(step, [1] * 3)
    assert len(set(wanted)) == 3 and np.array_equal(ms.get_rng_state().asnumpy(), state)
    ms.set_rng_state(Tensor(state))
    assert losses(step, [1] * 3) != wanted
    ms.set_seed(1)
    assert losses(step, [1] * 3) != wanted


def test_a_skipped_step_uses_up_its_masks(mode):
    """Five calls: from the sixth on MindSpore's kernel on CPU draws other numbers from one seed in every run."""
    ms.set_seed(1)
    wanted = losses(made(Losing()), [1] * 5)
    ms.set_seed(1)
    again = losses(made(Losing()), [1, np.inf, 1, np.inf, 1])
    assert len(set(wanted)) == 5 and again[1] == again[3] == np.inf
    assert again[::2] == wanted[::2]


def test_the_function_draws_by_the_call_where_the_seed_is_set_before_it_in_pynative_mode():
    def run(step, calls):
        found = []
        for call in calls:
            ms.set_seed(100 + call)
            found += losses(step, [1])
        return found

    ms.set_context(mode=ms.PYNATIVE_MODE)
    try:
        wanted = run(made(Losing(by_function=True)), range(6))
        assert len(set(wanted)) == 6 and run(made(Losing(by_function=True)), range(3, 6)) == wanted[3:]
    finally:
        ms.set_context(mode=ms.GRAPH_MODE)


def test_masks_that_are_inputs_are_the_same_on_resume(mode, tmp_path):
    """Drawn from the seed and the number of the call: nothing to save, and a skipped call changes none."""
    x = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)

    def run(step, calls):
        found = []
        for call in calls:
            mask = (np.random.default_rng([7, call]).random((6, 4)) >= 0.5) * np.float32(2)
            result = step(Tensor(x), Tensor(mask), Tensor(np.float32(np.inf if call in (1, 4) else 1)))
            found.append((float(result.loss), result.event))
        return found, {parameter.name: parameter.asnumpy().tobytes() for parameter in step.get_parameters()}

    step = made(MaskGiven(), 0.1)
    run(step, range(3))
    ms.save_checkpoint(step, str(tmp_path / "third.ckpt"))
    wanted = run(step, range(3, 6))
    resumed = made(MaskGiven(), 0.1)
    ms.load_param_into_net(resumed, ms.load_checkpoint(str(tmp_path / "third.ckpt")), strict_load=True)
    assert run(resumed, range(3, 6)) == wanted
