"""LossScaler against a model of its rule in plain Python, its state, and what it refuses."""

from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from amp_cells import ScalerInGraph
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, amp

from ascend_fixes.amp import LossScaler, ScalerError, ScalerStateError


class Reference:
    """The rule of the scaler's documentation, in float32 numbers."""

    def __init__(self, scaler: LossScaler):
        self.settings = scaler
        self.scale = np.float32(scaler.value)
        self.good = self.bad = self.stuck = 0

    def update(self, finite: bool) -> None:
        s = self.settings
        with np.errstate(over="ignore"):
            if finite:
                self.good, self.bad, self.stuck = self.good + 1, 0, 0
                if self.good >= s.growth_interval:
                    self.scale, self.good = min(self.scale * np.float32(s.growth), np.float32(s.maximum)), 0
                return
            self.good, self.bad = 0, self.bad + 1
            if self.bad >= s.hysteresis:
                lower = max(self.scale * np.float32(s.backoff), np.float32(s.minimum))
                self.stuck += bool(lower >= self.scale)
                self.scale, self.bad = lower, 0

    def state(self) -> tuple:
        return float(self.scale), self.good, self.bad, self.stuck


def state_of(scaler: LossScaler) -> tuple:
    state = scaler.state_dict()
    return state["scale"], state["good_steps"], state["bad_steps"], state["stuck_steps"]


@st.composite
def scalers(draw) -> LossScaler:
    low, start, high = sorted(draw(st.lists(st.integers(-20, 127), min_size=3, max_size=3)))
    return LossScaler(
        initial=2.0**start,
        minimum=2.0**low,
        maximum=2.0**high,
        growth=draw(st.sampled_from([1.0, 1.5, 2.0, 4.0])),
        backoff=draw(st.sampled_from([0.25, 0.5, 0.9, 1.0])),
        growth_interval=draw(st.integers(1, 4)),
        hysteresis=draw(st.integers(1, 3)),
    )


@settings(max_examples=8)
@given(scalers(), st.lists(st.booleans(), min_size=1, max_size=12), st.sampled_from([bool, np.bool_, Tensor]))
def test_follows_the_reference_model(scaler, run, kind):
    reference = Reference(scaler)
    for finite in run:
        new = scaler.update(kind(finite))
        reference.update(finite)
        assert state_of(scaler) == reference.state()
        assert float(new) == reference.scale
        assert scaler.minimum <= scaler.value <= scaler.maximum


@pytest.mark.parametrize("hysteresis", [1, 3])
def test_follows_the_reference_model_in_a_graph(hysteresis):
    scaler = LossScaler(16.0, minimum=0.25, maximum=64.0, growth_interval=3, hysteresis=hysteresis)
    reference, cell = Reference(scaler), ScalerInGraph(scaler)
    rng = np.random.default_rng(hysteresis)
    for _ in range(200):
        finite = bool(rng.random() < 0.6)
        cell(Tensor(finite), Tensor(1.0, ms.float16))
        reference.update(finite)
        assert state_of(scaler) == reference.state()


def test_a_thousand_overflows_and_a_thousand_growths_stay_in_bounds():
    scaler = LossScaler(growth_interval=1)
    cell = ScalerInGraph(scaler)
    for finite, bound in ((False, scaler.minimum), (True, scaler.maximum)):
        for _ in range(1000):
            cell(Tensor(finite), Tensor(1.0, ms.float32))
        assert scaler.value == bound


@pytest.mark.parametrize("dtype", [ms.float16, ms.float32])
def test_multiplies_in_float32_where_mindspore_overflows(dtype):
    scaler = LossScaler(2.0**17)
    scaled = scaler.scale(Tensor(0.5, dtype))
    assert scaled.dtype == ms.float32 and float(scaled) == 2.0**16
    if dtype == ms.float16:
        assert np.isinf(float(amp.DynamicLossScaler(2.0**17, 2, 1000).scale(Tensor(0.5, dtype))))


@given(st.integers(-14, 24), st.floats(-1e3, 1e3, width=16))
@settings(max_examples=15)
def test_unscaling_undoes_scaling_by_powers_of_two_exactly(exponent, value):
    scaler = LossScaler(2.0**exponent)
    scaled = scaler.scale((Tensor(value, ms.float16), Tensor([value], ms.float32)))
    for part in scaler.unscale(scaled):
        assert part.dtype == ms.float32 and np.all(part.asnumpy() == np.float32(value))


def test_unscaling_a_float16_gradient_does_not_underflow():
    (gradient,) = LossScaler(2.0**24, maximum=2.0**25).unscale((Tensor([32768.0], ms.float16),))
    assert float(gradient[0]) == 2.0**-9
    (lost,) = amp.DynamicLossScaler(2.0**25, 2, 1000).unscale((Tensor([32768.0], ms.float16),))
    assert float(lost[0]) == 0.0


def test_static_and_off_keep_their_scale_and_count():
    for scaler, scale in ((LossScaler.static(128), 128.0), (LossScaler.off(), 1.0)):
        for finite in (True, False, False):
            scaler.update(Tensor(finite))
        assert state_of(scaler) == (scale, 0, 0, 2)


@settings(max_examples=8)
@given(scalers(), st.lists(st.booleans(), max_size=10), st.lists(st.booleans(), min_size=1, max_size=6))
def test_state_round_trip_continues_exactly(scaler, before, after):
    for finite in before:
        scaler.update(Tensor(finite))
    state = scaler.state_dict()
    twin, other = LossScaler.from_state_dict(state), LossScaler()
    other.load_state_dict(state)
    assert twin.state_dict() == other.state_dict() == state
    for finite in after:
        scaler.update(Tensor(finite))
        twin.update(Tensor(finite))
        assert twin.state_dict() == scaler.state_dict()


def test_every_field_is_restored_from_values_off_its_default():
    state = dict(
        scale=3.0,
        good_steps=7,
        bad_steps=1,
        stuck_steps=4,
        initial=5.0,
        minimum=2.5,
        maximum=40.0,
        growth=3.0,
        backoff=0.25,
        growth_interval=11,
        hysteresis=2,
    )
    defaults = LossScaler().state_dict()
    assert set(state) == set(defaults) and not [name for name in state if state[name] == defaults[name]]
    assert LossScaler.from_state_dict(state).state_dict() == state


def test_settings_that_cannot_work_are_refused_in_a_state_too():
    scaler = LossScaler()
    before = scaler.state_dict()
    with pytest.raises(ScalerStateError, match="growth"):
        scaler.load_state_dict({**before, "growth": 0.5})
    assert scaler.state_dict() == before


def test_two_fields_without_settings_are_enough_for_neither_but_named():
    scaler = LossScaler()
    scaler.settings_are_final = True
    before = scaler.state_dict()
    for state, text in (
        ({"scale": 4.0, "good_steps": 1}, "bad_steps, stuck_steps missing"),
        ({**before, "speed": 1}, "speed unknown"),
        ({**before, "scale": 2.0**30}, "scale=1073741824.0 is not within"),
        ({**before, "scale": float("nan")}, "scale=nan"),
        ({**before, "good_steps": -1}, "good_steps=-1 is no count"),
        ({**before, "growth_interval": 5}, "saved with growth_interval=5, but this scaler has growth_interval=2000"),
    ):
        with pytest.raises(ScalerStateError, match=text):
            scaler.load_state_dict(state)
        assert scaler.state_dict() == before


@pytest.mark.parametrize(
    "wrong",
    [
        dict(initial=float("inf")),
        dict(initial=0.0),
        dict(minimum=0.0),
        dict(minimum=8.0, maximum=4.0),
        dict(maximum=1e39),
        dict(initial=2.0**30),
        dict(growth=0.5),
        dict(backoff=0.0),
        dict(backoff=2.0),
        dict(growth_interval=0),
        dict(hysteresis=1.5),
        dict(hysteresis=True),
        dict(initial="1"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(wrong):
    with pytest.raises(ScalerError, match=next(iter(wrong))):
        LossScaler(**wrong)


NUMBERS = st.floats(2.0**-126, 3.4e38, allow_nan=False)


@settings(max_examples=200)
@given(
    st.lists(NUMBERS, min_size=3, max_size=3),
    st.floats(1, 1e6),
    st.floats(1e-6, 1),
    st.integers(1, 2**31 - 2),
    st.integers(1, 2**31 - 2),
    st.booleans(),
)
def test_accepts_its_own_state_whatever_its_settings(numbers, growth, backoff, interval, hysteresis, final):
    """Bounds of float64 beside a scale of float32 refused one in six, LossScaler.static(0.1) among them."""
    low, start, high = sorted(numbers)
    scaler = LossScaler(start, low, high, growth, backoff, interval, hysteresis)
    scaler.settings_are_final = final
    state = scaler.state_dict()
    scaler.load_state_dict(state)
    assert scaler.state_dict() == state == LossScaler.from_state_dict(state).state_dict()


def test_a_static_scale_that_float32_rounds_round_trips():
    scaler = LossScaler.static(0.1)
    scaler.settings_are_final = True
    scaler.load_state_dict(scaler.state_dict())
    scaler.load_state_dict({**scaler.state_dict(), "minimum": 0.1, "maximum": 0.1})  # as older versions saved it
    assert scaler.value == scaler.minimum == float(np.float32(0.1))


WRONG = st.sampled_from(
    [
        2**31 - 1,
        2**31,
        2**40,
        2**70,
        -1,
        1.5,
        "1",
        None,
        True,
        float("nan"),
        float("inf"),
        -(2**70),
        10**400,
        [1],
        np.float64("nan"),
    ]
)


@settings(max_examples=60)
@given(st.sampled_from(sorted(LossScaler().state_dict())), WRONG)
def test_a_state_that_is_wrong_anywhere_changes_nothing(name, value):
    scaler = LossScaler(256.0, minimum=2.0, maximum=512.0)
    before = scaler.state_dict()
    if name in ("growth", "initial", "minimum", "maximum", "scale") and value in (1.5, 2**31 - 1, 2**31, 2**40, 2**70):
        return  # numbers these may have, or that are refused only beside others
    with pytest.raises(ScalerStateError, match=name):
        scaler.load_state_dict({**before, name: value})
    assert scaler.state_dict() == before


@pytest.mark.parametrize("state", [None, 3, [("scale", 1.0)]])
def test_what_is_no_state_is_refused(state):
    for load in (LossScaler().load_state_dict, LossScaler.from_state_dict):
        with pytest.raises(ScalerStateError, match="state"):
            load(state)
