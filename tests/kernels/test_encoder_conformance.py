"""The encoder's ops on every backend and in every precision, on the same inputs, against the reference in float64."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from affectcore.kernels import dispatch, encoder
from affectcore.kernels.encoder import (
    ACTIVATIONS,
    Embedding,
    Head,
    Layer,
    Linear,
    Network,
    Norm,
    Relative,
    cpu,
    gpu,
    graph,
    reference,
    tile,
)

LOGITS = {"fp32": 1e-4, "bf16": 3e-2}  # as the family promises
LENGTHS = {
    "one token": [1],
    "one sequence of 512": [512],
    "around the tiles' borders": [1, 63, 64, 65, 2, 31, 32, 33, 128, 1],
    "many tiny ones": [1, 2, 3, 5, 1, 1] * 4,
}


class Run(NamedTuple):
    """A backend in one of its precisions."""

    backend: str
    precision: Any

    def prepare(self, part: Any) -> Any:
        return encoder.prepare(part, self.precision, backend=self.backend)

    def place(self, array: np.ndarray) -> Any:
        """Return an array as the backend's ops take it."""
        placed = dispatch.place(array, self.backend)
        if self.backend == "triton" and array.dtype == np.float32:
            return placed.to(gpu.DTYPES[self.precision])
        return placed

    def place_qkv(self, array: np.ndarray) -> Any:
        """Return the input of attention; on numba what is not fp32 is uint16, bfloat16 bits."""
        if self.backend == "numba" and self.precision != "fp32":
            return cpu.round_bf16(array)
        return self.place(array)

    @property
    def rounds(self) -> bool:
        """Whether results are rounded to bfloat16; on numba they are float32 in every precision."""
        return self == ("triton", "bf16")

    def close(self, found: Any, wanted: np.ndarray, slack: float = 1.0) -> None:
        """Compare results of inputs that rounding does not change: float32 sums, then rounding if the run `rounds`."""
        relative = 2.0**-8 if self.rounds else 1e-5
        np.testing.assert_allclose(fetch(found), wanted, rtol=slack * relative, atol=slack * 1e-5)


RUNS = [Run("triton", "fp32"), Run("triton", "bf16"), Run("numba", "fp32"), Run("numba", "bf16"), Run("numba", "int8")]
# Attention, embedding and head have no int8 of their own.
FLOATING = RUNS[:4]


def runs(chosen: list[Run] = RUNS) -> Any:
    """Mark a test to be done for each of the runs that are possible here."""
    parameters = []
    for run in chosen:
        there = cpu.PRECISIONS if run.backend == "numba" else gpu.PRECISIONS
        reason = f"this CPU has no instructions for {run.precision}: it can {', '.join(there)}"
        marks = pytest.mark.skipif(run.precision not in there, reason=reason)
        parameters.append(pytest.param(run, id=" ".join(run), marks=marks))
    return pytest.mark.parametrize("run", parameters)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Maker:
    """Random arrays; matrices and inputs hold numbers that bfloat16 has, so that rounding them changes nothing."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)

    def array(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        values = torch.from_numpy(self.random.standard_normal(shape) * scale)
        return values.to(torch.bfloat16).to(torch.float32).numpy()

    def linear(self, n_out: int, n_in: int) -> Linear:
        return Linear(self.array(n_out, n_in, scale=n_in**-0.5), self.array(n_out, scale=0.1))

    def norm(self, d: int) -> Norm:
        return Norm(1 + self.array(d, scale=0.1), self.array(d, scale=0.1), 1e-5)

    def relative(self, d: int, reach: int = 40) -> Relative:
        bucket = np.sign(np.arange(1 - reach, reach)) * np.sqrt(np.abs(np.arange(1 - reach, reach)) * 4)
        bucket = (bucket - bucket.min()).astype(np.int32)
        n = int(bucket.max()) + 1
        return Relative(self.array(n, d, scale=0.5), self.array(n, d, scale=0.5), bucket)

    def network(
        self,
        d: int = 48,
        n_heads: int = 3,
        m: int = 80,
        n_layers: int = 2,
        activation: str = "gelu",
        gated: bool = False,
        pre_norm: bool = False,
        project: bool = False,
        head: Head | None = None,
        **attention: Any,
    ) -> Network:
        e = 32 if project else d
        embedding = Embedding(
            self.array(60, e),
            self.array(0 if "rotary_base" in attention else 600, e),
            self.norm(e),
            self.linear(d, e) if project else None,
        )
        layers = []
        for number in range(n_layers):
            relative = self.relative(d) if attention.get("relative") else None
            layers.append(
                Layer(
                    norm_in=self.norm(d) if pre_norm and number else None,
                    qkv=self.linear(3 * d, d),
                    out=self.linear(d, d),
                    norm_mid=self.norm(d),
                    up=self.linear(2 * m if gated else m, d),
                    down=self.linear(d, m),
                    norm_out=None if pre_norm else self.norm(d),
                    window=attention.get("window", 0) if number else 0,
                    rotary_base=attention.get("rotary_base", 0.0),
                    relative=relative,
                )
            )
        if head is None:
            head = Head("first", self.linear(d, d), "tanh", None, self.linear(7, d))
        scale = (d / n_heads * (3 if attention.get("relative") else 1)) ** -0.5
        final = self.norm(d) if pre_norm else None
        return Network(embedding, tuple(layers), final, head, n_heads, scale, activation, gated, pre_norm)

    def tokens(self, lengths: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
        ids = self.random.integers(0, 60, int(offsets[-1])).astype(np.int32)
        places = np.concatenate([np.arange(n) for n in lengths]).astype(np.int32)
        return ids, places, offsets


def fetch(result: Any) -> np.ndarray:
    out: np.ndarray = result.float().cpu().numpy() if dispatch.is_tensor(result) else result
    return out


def right(part: Any) -> Any:
    """Return a part prepared for the reference."""
    return encoder.prepare(part, backend="reference")


def bfloat16(x: np.ndarray) -> np.ndarray:
    """Round to bfloat16 as torch does, and back."""
    out: np.ndarray = torch.from_numpy(np.asarray(x, np.float32)).to(torch.bfloat16).float().numpy()
    return out


# What int8 rounds: each output's weights to multiples of 1/127 of its largest, so that they are off by up to 1/254 of
# it; each row of x to 256 steps over its range, off by up to 1/510 of that.


def steps(x: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int8's steps for each row of x, (n, 1), and for each output, (1, n_out)."""
    return np.ptp(x, axis=1, keepdims=True) / 255, np.abs(weight).max(1)[None] / 127


def int8_bound(x: np.ndarray, layer: Linear) -> np.ndarray:
    """Return the most by which int8 may miss x @ weight.T: all inputs and weights half a step off, all one way."""
    x, weight = np.asarray(x, np.float64), np.asarray(layer.weight, np.float64)
    row, column = steps(x, weight)
    spread = np.abs(weight).sum(1) + weight.shape[1] * column / 2
    bound: np.ndarray = row / 2 * spread + np.abs(x).sum(1, keepdims=True) * column / 2
    return bound


def int8_deviation(x: np.ndarray, layer: Linear) -> np.ndarray:
    """Return the standard deviation of int8's error: roundings err evenly within half a step, and independently."""
    x, weight = np.asarray(x, np.float64), np.asarray(layer.weight, np.float64)
    row, column = steps(x, weight)
    spread = (weight**2).sum(1) + weight.shape[1] * column**2 / 12
    deviation: np.ndarray = np.sqrt((row**2 * spread + column**2 * (x**2).sum(1, keepdims=True)) / 12)
    return deviation


def rounded_ops() -> Any:
    """Return the reference's ops with what int8 rounds rounded in plain NumPy: an error that is int8's own."""

    def linear(x: np.ndarray, layer: Linear, activation: str = "", gated: bool = False) -> np.ndarray:
        row, column = steps(x, layer.weight)
        low = x.min(1, keepdims=True)
        weight = np.rint(layer.weight / column.T) * column.T
        return reference.linear(low + np.rint((x - low) / row) * row, replace(layer, weight=weight), activation, gated)

    def attention(qkv: np.ndarray, *given: Any, **options: Any) -> np.ndarray:
        return reference.attention(bfloat16(qkv), *given, **options)

    whole = {"embed": reference.embed, "add_norm": reference.add_norm, "head": reference.head}
    return SimpleNamespace(linear=linear, attention=attention, **whole)


# Linear layers


def check_linear(run: Run, x: np.ndarray, layer: Linear, activation: str = "", gated: bool = False) -> None:
    found = encoder.linear(run.place(x), run.prepare(layer), activation, gated, backend=run.backend)
    wanted = encoder.linear(x, right(layer), activation, gated, backend="reference")
    assert str(found.dtype).endswith("bfloat16" if run.rounds else "float32")
    if run.backend == "triton" or run.precision == "fp32":
        run.close(found, wanted)
        return
    # Activations are nowhere steeper than 1.13 (gelu: its derivative at sqrt(2)), and numba's gelu, other than in fp32,
    # is one that is off by 2e-4, or 5e-5 of its argument.
    inside = encoder.linear(x, right(layer), backend="reference")
    off = int8_bound(x, layer) if run.precision == "int8" else np.zeros_like(inside)
    off = off + 1e-5 * (1 + np.abs(inside))
    if gated:
        (inside, factor), (off, factor_off) = np.split(inside, 2, axis=1), np.split(off, 2, axis=1)
    off = 1.13 * off
    if activation == "gelu":
        off = off + 2e-4 + 5e-5 * np.abs(inside)
    if gated:
        off = off * (np.abs(factor) + factor_off) + 1.13 * (np.abs(inside) + 1) * factor_off
    assert (np.abs(found - wanted) <= off).all()


@runs()
@pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_linear(activation: str, gated: bool, run: Run) -> None:
    make = Maker()
    for n, n_in, n_out in ((1, 16, 16), (130, 72, 50), (3, 200, 136)):
        check_linear(
            run, make.array(n, n_in, scale=2), make.linear(2 * n_out if gated else n_out, n_in), activation, gated
        )


@runs()
def test_linear_of_odd_sizes(run: Run) -> None:
    make = Maker()
    for n, n_in, n_out in ((1, 1, 1), (7, 3, 5), (9, 33, 17), (65, 47, 49), (66, 81, 1), (0, 16, 16)):
        check_linear(run, make.array(n, n_in), make.linear(n_out, n_in))


@runs(RUNS[2:])
@given(data=st.data())
@settings(max_examples=40)
def test_linear_of_any_size(run: Run, data: st.DataObject) -> None:
    n, n_in, n_out = (data.draw(st.integers(1, most), name) for name, most in (("n", 70), ("in", 70), ("out", 60)))
    gated, activation = data.draw(st.booleans(), "gated"), data.draw(st.sampled_from(ACTIVATIONS), "activation")
    make = Maker(data.draw(st.integers(0, 99), "seed"))
    check_linear(run, make.array(n, n_in), make.linear(2 * n_out if gated else n_out, n_in), activation, gated)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, from Triton's interpreter: exp(300) is infinite
@runs()
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_far_out(activation: str, run: Run) -> None:
    """One input of weight one, which no precision rounds: results are those of the activation."""
    x = bfloat16(np.concatenate([np.linspace(-6, 6, 481), np.linspace(-300, 300, 61), [1e4, -1e4, 0.0, -0.0]]))[:, None]
    layer = Linear(np.ones((1, 1), np.float32), np.zeros(1, np.float32))
    found = fetch(encoder.linear(run.place(x), run.prepare(layer), activation, backend=run.backend))
    wanted = encoder.linear(x, right(layer), activation, backend="reference")
    if activation == "gelu" and run.backend == "numba" and run.precision != "fp32":
        assert (np.abs(found - wanted) <= np.maximum(2e-4, 5e-5 * np.abs(x))).all()
    else:
        run.close(found, wanted)


@runs([Run("triton", "bf16"), Run("numba", "bf16")])
def test_bf16_rounds_wider_inputs(run: Run) -> None:
    make = Maker()
    x = make.random.standard_normal((37, 33)).astype(np.float32)
    layer = run.prepare(make.linear(8, 33))
    wide, narrow = (fetch(encoder.linear(dispatch.place(a, run.backend), layer)) for a in (x, bfloat16(x)))
    np.testing.assert_array_equal(wide, narrow)
    assert not np.array_equal(x, bfloat16(x))


@runs([Run("numba", "int8")])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_int8_errs_as_rounding_to_nearest_does(shift: float, run: Run) -> None:
    """An error that is as large as it must be, no larger: truncation or a step too wide would show."""
    make = Maker()
    for n, n_in, n_out in ((130, 72, 50), (20, 384, 384)):
        layer = make.linear(n_out, n_in)
        x = make.random.standard_normal((n, n_in)).astype(np.float32) + np.float32(shift)
        found = encoder.linear(x, run.prepare(layer))
        error = (found - encoder.linear(x, right(layer), backend="reference")) / int8_deviation(x, layer)
        # Errors share the roundings of their row or output, so that their squares still vary by a few per cent.
        assert 0.85 < np.sqrt((error**2).mean()) < 1.15
        assert np.abs(error).max() < 6


@runs([Run("numba", "int8")])
def test_int8_takes_a_row_as_it_comes(run: Run) -> None:
    """Rows without a range, or with one that float32 hardly holds, and outputs without weights."""
    make = Maker()
    layer = make.linear(20, 33)
    layer.weight[3] = 0
    scales = np.array([0, 1e-44, 1e-40, 1e-38, 1e-30, 1, 1e30], np.float32)[:, None]
    x = np.concatenate([make.array(7, 33) * scales, np.full((2, 33), 2.5, np.float32), np.eye(2, 33, dtype=np.float32)])
    check_linear(run, x, layer)


@runs([Run("numba", "int8")])
def test_int8_keeps_channels_apart(run: Run) -> None:
    """Channels that are multiplied in float32 neither take the range of the others nor are rounded."""
    make = Maker()
    x, layer = make.array(70, 81), make.linear(50, 81)
    x[:, [0, 40]] *= 1000
    rest = np.setdiff1d(np.arange(81), [0, 40])
    given_x = x.copy()
    found = cpu.linear(x, cpu.pack(layer, tile.INT8, [0, 40]))
    wanted = encoder.linear(x, right(layer), backend="reference")
    bound = int8_bound(x[:, rest], replace(layer, weight=layer.weight[:, rest]))
    assert (np.abs(found - wanted) <= bound + 1e-5 * np.abs(wanted) + 1e-3).all()  # 1e-3: sums of 1000s in float32
    assert np.abs(cpu.linear(x, cpu.pack(layer, tile.INT8)) - wanted).max() > 10 * bound.max()
    np.testing.assert_array_equal(x, given_x)


@runs()
def test_unknown_activations_are_an_error(run: Run) -> None:
    make = Maker()
    x = run.place(make.array(2, 32))
    with pytest.raises(ValueError, match="unknown activation 'swish': choose from '', 'gelu'"):
        encoder.linear(x, run.prepare(make.linear(8, 32)), "swish", backend=run.backend)
    part = run.prepare(Head("first", make.linear(32, 32), "swish", None, make.linear(3, 32)))
    with pytest.raises(ValueError, match="unknown activation 'swish': choose from '', 'gelu'"):
        encoder.head(x, run.place(np.arange(3)), part, backend=run.backend)


# Norms, embedding


@runs()
@pytest.mark.parametrize("d", [24, 64, 1030])
def test_add_norm(d: int, run: Run) -> None:
    make = Maker(d)
    x, residual, norm = make.array(9, d), make.array(9, d, scale=3), make.norm(d)
    for other in (residual, None):
        rest = None if other is None else run.place(other)
        found = encoder.add_norm(run.place(x), rest, run.prepare(norm), backend=run.backend)
        wanted = encoder.add_norm(x, other, right(norm), backend="reference")
        np.testing.assert_allclose(fetch(found[0]), wanted[0], rtol=1e-6, atol=1e-6)
        run.close(found[1], wanted[1])


@runs()
@pytest.mark.parametrize("places", [0, 40])
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("project", [False, True])
def test_embed(project: bool, norm: bool, places: int, run: Run) -> None:
    make = Maker()
    part = Embedding(
        make.array(60, 40),
        make.array(places, 40),
        make.norm(40) if norm else None,
        make.linear(24, 40) if project else None,
    )
    ids, positions, _ = make.tokens([17, 40, 1])
    found = encoder.embed(run.place(ids), run.place(positions), run.prepare(part), backend=run.backend)
    wanted = encoder.embed(ids, positions, right(part), backend="reference")
    if project and run.rounds:  # what is projected is rounded before
        np.testing.assert_allclose(fetch(found), wanted, rtol=0, atol=3e-2)
    else:
        run.close(found, wanted)


# Attention


ATTENTIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "window": {"window": 5},
    "wide window": {"window": 70},
    "rotary": {"rotary_base": 1e4},
    "window, rotary": {"window": 33, "rotary_base": 1.6e5},
    "relative": {"relative": ("key", "query")},
    "relative keys": {"relative": ("key",)},
    "relative queries": {"relative": ("query",)},
    "window, relative": {"window": 20, "relative": ("key", "query")},
}


def check_attention(run: Run, lengths: list[int], d: int, n_heads: int, options: dict[str, Any], seed: int = 0) -> None:
    make = Maker(seed)
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    qkv = make.array(int(offsets[-1]), 3 * d)
    options = dict(options)
    part, parts = None, options.pop("relative", ())
    if parts:
        none = {name: np.zeros((0, d), np.float32) for name in ("key", "query") if name not in parts}
        part = replace(make.relative(d), **none)
    options["scale"] = (d / n_heads) ** -0.5
    given = run.place_qkv(qkv), run.place(offsets), n_heads
    found = fetch(encoder.attention(*given, relative=run.prepare(part), backend=run.backend, **options))
    wanted = encoder.attention(qkv, offsets, n_heads, relative=right(part), backend="reference", **options)
    rotary = "rotary_base" in options
    largest = np.abs(qkv).max(initial=0)
    if run.precision != "fp32":
        # Weights are rounded before they multiply v, and so are q and k that were turned: with scores of size s the
        # weights err by s / 256.
        np.testing.assert_allclose(found, wanted, rtol=2.0**-8, atol=(8 if rotary else 1) * 2.0**-9 * largest)
    else:
        # Angles are float32 on numba, as in transformers: that of token t is off by up to t * 2^-24, and scores by as
        # many times their size.
        angle = max(lengths, default=0) * 2.0**-24 if rotary and run.backend == "numba" else 0
        np.testing.assert_allclose(found, wanted, rtol=0, atol=(2e-6 + angle) * largest)
    if run.backend == "numba":
        first = cpu.Workspace().attention_first(*given, relative=run.prepare(part), **options)
        np.testing.assert_array_equal(first, found[offsets[:-1]])


@runs(FLOATING)
@pytest.mark.parametrize("shape", LENGTHS)
@pytest.mark.parametrize("kind", ["full", "window, rotary"])
def test_attention_on_ragged_shapes(kind: str, shape: str, run: Run) -> None:
    check_attention(run, LENGTHS[shape], 32, 1, ATTENTIONS[kind])


@runs(FLOATING)
@pytest.mark.parametrize("kind", ATTENTIONS)
def test_attention_of_every_kind(kind: str, run: Run) -> None:
    check_attention(run, [1, 70, 3, 100], 32, 2, ATTENTIONS[kind])


@runs([Run("triton", "fp32"), Run("numba", "fp32"), Run("numba", "bf16")])
@pytest.mark.parametrize(("d", "n_heads"), [(16, 2), (24, 1), (48, 1), (128, 1), (192, 2)])
@pytest.mark.parametrize("kind", ["full", "rotary", "relative"])
def test_heads_of_any_width(kind: str, d: int, n_heads: int, run: Run) -> None:
    check_attention(run, [3, 40], d, n_heads, ATTENTIONS[kind])


@runs([Run("numba", "fp32"), Run("numba", "bf16")])
@given(data=st.data())
@settings(max_examples=40)
def test_attention_of_any_shape(run: Run, data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(1, 60), max_size=5), "lengths")
    n_heads = data.draw(st.integers(1, 3), "heads")
    rotary = data.draw(st.booleans(), "rotary")
    width = data.draw(st.integers(1, 40), "width")
    width *= 2 if rotary or run.precision == "bf16" else 1
    options: dict[str, Any] = {"window": data.draw(st.integers(0, 70), "window")}
    if rotary:
        options["rotary_base"] = data.draw(st.sampled_from([10.0, 1e4]), "base")
    options["relative"] = data.draw(st.sampled_from([(), ("key",), ("query",), ("key", "query")]), "relative")
    check_attention(run, lengths, width * n_heads, n_heads, options, data.draw(st.integers(0, 99), "seed"))


# Head


@runs(FLOATING)
@pytest.mark.parametrize("pooling", ["first", "mean"])
@pytest.mark.parametrize("dense", [False, True], ids=["", "dense"])
@pytest.mark.parametrize("norm", [False, True], ids=["", "norm"])
def test_head(norm: bool, dense: bool, pooling: Any, run: Run) -> None:
    make = Maker()
    d, lengths = 80, [1, 20, 3, *[2] * 16]
    for activation, k in (("gelu", 5), ("tanh", 1), ("", 70)):
        part = Head(
            pooling,
            make.linear(d, d) if dense else None,
            activation,
            make.norm(d) if norm else None,
            make.linear(k, d),
        )
        offsets = np.cumsum([0, *lengths], dtype=np.int64)
        x = make.array(int(offsets[-1]), d)
        found = encoder.head(run.place(x), run.place(offsets), run.prepare(part), backend=run.backend)
        wanted = encoder.head(x, offsets, right(part), backend="reference")
        assert str(found.dtype).endswith("float32")
        assert found.shape == (len(lengths), k)
        exact = run.precision == "fp32" or run.backend == "numba"
        np.testing.assert_allclose(fetch(found), wanted, rtol=0, atol=1e-5 if exact else 3e-2)


# Whole networks


NETWORKS: dict[str, dict[str, Any]] = {
    "post-norm": {},
    "post-norm, relu, projected": {"activation": "relu", "project": True},
    "pre-norm, gated, rotary, windows": {
        "pre_norm": True,
        "gated": True,
        "rotary_base": 1e4,
        "window": 6,
        "activation": "gelu",
    },
    "relative": {"relative": True, "activation": "gelu_tanh"},
    "odd widths": {"d": 42, "m": 81},
}


def run_forward(run: Run, tokens: tuple[np.ndarray, ...], network: Any) -> Any:
    return fetch(encoder.forward(*(run.place(a) for a in tokens), network, backend=run.backend))


def check_forward(run: Run, tokens: tuple[np.ndarray, np.ndarray, np.ndarray], network: Network) -> None:
    found = run_forward(run, tokens, run.prepare(network))
    wanted = encoder.forward(*tokens, right(network), backend="reference")
    assert found.dtype == np.float32
    assert np.abs(wanted).max() > 0.3  # of order 1, as the tolerance assumes
    if run.precision == "int8":
        ids, positions, offsets = tokens
        error = np.abs(found - wanted)
        plain = np.abs(graph.forward(rounded_ops(), right(network), ids, positions, offsets) - wanted)
        assert np.sqrt((error**2).mean()) <= 1.3 * np.sqrt((plain**2).mean())
        assert error.max() <= 2 * plain.max()
    else:
        np.testing.assert_allclose(found, wanted, rtol=0, atol=LOGITS[run.precision])


@runs()
@pytest.mark.parametrize(("kind", "pooling"), [*((kind, "first") for kind in NETWORKS), ("post-norm", "mean")])
def test_forward(kind: str, pooling: Any, run: Run) -> None:
    make = Maker()
    sizes = {"d": 48, **NETWORKS[kind]}
    d = sizes["d"]
    head = Head(pooling, make.linear(d, d), "gelu", make.norm(d), make.linear(7, d)) if pooling == "mean" else None
    network = make.network(head=head, **sizes)
    check_forward(run, make.tokens([1, 40, 3, 70, 1, 1, 12]), network)


@runs()
@pytest.mark.parametrize("lengths", [[512], [1]], ids=["512 tokens", "one token"])
def test_forward_of_a_single_sequence(lengths: list[int], run: Run) -> None:
    make = Maker()
    network = make.network(d=32, n_heads=1, n_layers=1)
    check_forward(run, make.tokens(lengths), network)


@runs([Run("triton", "fp32"), *RUNS[2:]])
@pytest.mark.parametrize("kind", ["post-norm", "pre-norm, gated, rotary, windows", "relative"])
def test_sequences_do_not_touch_each_other(kind: str, run: Run) -> None:
    make = Maker()
    network = run.prepare(make.network(d=32, n_heads=2, **NETWORKS[kind]))
    lengths = [5, 1, 70, 40, 2]
    ids, places, offsets = make.tokens(lengths)
    together = run_forward(run, (ids, places, offsets), network)
    for s in range(len(lengths)):
        part = slice(int(offsets[s]), int(offsets[s + 1]))
        alone = run_forward(run, (ids[part], places[part], np.array([0, lengths[s]])), network)
        # BLAS, which multiplies in Triton's interpreter, may order sums by a row's place in the matrix.
        np.testing.assert_allclose(alone[0], together[s], rtol=0, atol=1e-6 if run.backend == "triton" else 0)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, from Triton's interpreter
@runs(RUNS[1:])
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        ("post-norm", "first"),
        ("pre-norm, gated, rotary, windows", "mean"),
        ("relative", "mean"),
        ("odd inside", "mean"),
    ],
)
def test_not_finite_stays_in_its_sequence(pooling: Any, kind: str, poison: float, run: Run) -> None:
    make = Maker()
    head = Head(pooling, make.linear(32, 32), "relu", make.norm(32), make.linear(3, 32))
    network = make.network(d=32, n_heads=2, n_layers=1, head=head, **NETWORKS.get(kind, {"m": 81}))
    network.embedding.words[59, 3] = poison
    network = replace(network, embedding=replace(network.embedding, norm=None))
    ids, places, offsets = make.tokens([3, 20, 1, 2])
    ids[ids == 59] = 0
    if run.precision == "int8":
        ours = encoder.prepare(network, "int8", sample=(ids, places, offsets))
    else:
        ours = run.prepare(network)
    clean = run_forward(run, (ids, places, offsets), ours)
    ids[4] = 59  # of the second sequence
    found = run_forward(run, (ids, places, offsets), ours)
    others = [0, 2, 3]
    assert np.isfinite(clean).all()
    np.testing.assert_array_equal(found[others], clean[others])
    assert not np.isfinite(found[1]).any()


@runs()
def test_nothing_to_do(run: Run) -> None:
    make = Maker()
    none = np.zeros(0, np.int32)
    for kind in NETWORKS.values():
        network = run.prepare(make.network(**kind))
        assert run_forward(run, (none, none, np.zeros(1, np.int64)), network).shape == (0, 7)


@runs([Run("numba", "int8")])
def test_int8_looks_for_far_channels_in_a_sample(run: Run) -> None:
    """The texts' words, which random ids do not hit, have a channel far out of the others' range."""
    make = Maker()
    network = make.network(d=64, n_heads=2, n_layers=1, head=Head("mean", None, "", None, make.linear(7, 64)))
    words = make.array(30_000, 64)
    words[-60:, 5] = 100
    network = replace(network, embedding=Embedding(words, network.embedding.positions, None, None))
    ids, places, offsets = make.tokens([12] * 40)
    ids += 30_000 - 60
    wanted = encoder.forward(ids, places, offsets, right(network), backend="reference")
    knowing = encoder.prepare(network, "int8", sample=(ids[:48], places[:48], offsets[:5]))
    unaware = run.prepare(network)
    assert 5 in knowing.layers[0].qkv.channels
    assert 5 not in unaware.layers[0].qkv.channels
    # On other texts than the sample's, as in use.
    errors = [encoder.forward(ids, places, offsets, ours)[4:] - wanted[4:] for ours in (knowing, unaware)]
    known, unknown = (np.sqrt((error**2).mean()) for error in errors)
    assert known < 0.7 * unknown


# Preparing


def test_prepare_for_triton() -> None:
    network = Maker().network(relative=True)
    ours = encoder.prepare(network, "bf16", backend="triton")
    assert ours.layers[0].qkv.weight.dtype == ours.embedding.words.dtype == torch.bfloat16
    assert ours.layers[0].relative.key.dtype == torch.bfloat16
    assert ours.layers[0].relative.bucket.dtype == torch.int32
    assert ours.layers[0].qkv.bias.dtype == ours.layers[0].norm_mid.weight.dtype == torch.float32
    assert ours.width == network.width
    with pytest.raises(ValueError, match="fp32 or bf16, not in int8"):
        encoder.prepare(network, "int8", backend="triton")


def test_precisions_that_a_cpu_lacks_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tile.HAS, tile.INT8, False)
    monkeypatch.setitem(tile.HAS, tile.BF16, False)
    monkeypatch.setattr(cpu, "PRECISIONS", ("fp32",))
    network = Maker().network()
    assert encoder.precisions() == encoder.precisions("numba") == ("fp32",)
    for precision in ("int8", "bf16"):
        with pytest.raises(ValueError, match=f"this CPU has no instructions for {precision}: it can fp32$"):
            encoder.prepare(network, precision)  # type: ignore[arg-type]
    encoder.prepare(network, "fp32")


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_unknown_precisions_are_an_error(backend: str) -> None:
    with pytest.raises(ValueError, match="fp32"):
        encoder.prepare(Maker().linear(3, 4), "fp8", backend=backend)  # type: ignore[arg-type]


def test_precisions_are_those_of_the_cpu() -> None:
    there = encoder.precisions("numba")
    assert there == tuple(name for name, kind in cpu.KINDS.items() if tile.HAS[kind])
    assert there[0] == "fp32"
    assert encoder.precisions("triton") == ("fp32", "bf16")


# Triton alone


@pytest.mark.parametrize("kind", ATTENTIONS)
def test_triton_attention_of_first_tokens(kind: str) -> None:
    make, run = Maker(), RUNS[0]
    offsets = run.place(np.cumsum([0, 1, 70, 3, 100], dtype=np.int64))
    qkv = run.place(make.array(174, 96))
    options = dict(ATTENTIONS[kind])
    relative = run.prepare(make.relative(32)) if options.pop("relative", ()) else None
    options |= {"scale": 0.25, "relative": relative}
    found = gpu.attention(qkv, offsets, 2, first=True, **options)
    torch.testing.assert_close(found, gpu.attention(qkv, offsets, 2, **options)[offsets[:-1]], rtol=0, atol=1e-5)


@runs(RUNS[:2])
def test_triton_add_norm_without_sums(run: Run) -> None:
    make = Maker()
    x, rest, norm = run.place(make.array(9, 24)), run.place(make.array(9, 24)), run.prepare(make.norm(24))
    for residual in (rest, None):
        total, normed = gpu.add_norm(x, residual, norm, sums=False)
        assert total is None
        assert torch.equal(normed, encoder.add_norm(x, residual, norm)[1])


@pytest.mark.parametrize("target", gpu.TILES)
@pytest.mark.parametrize("kind", ["window", "relative"])
def test_the_tiles_of_every_target(kind: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "kind", lambda device: target)
    check_attention(RUNS[0], [50, 20], 32, 1, ATTENTIONS[kind])


def test_heads_that_are_too_wide_for_triton_are_an_error() -> None:
    with pytest.raises(ValueError, match="up to 128"):
        encoder.attention(torch.zeros(1, 3 * 160), torch.tensor([0, 1]), 1, scale=1.0)


@pytest.mark.parametrize("tile", [16, 64])
@pytest.mark.parametrize("shape", LENGTHS)
def test_tiles_cover_each_token_once(shape: str, tile: int) -> None:
    offsets = np.cumsum([0, *LENGTHS[shape]], dtype=np.int64)
    n = int(offsets[-1])
    table = gpu.tile_table(torch.from_numpy(offsets), n, tile)
    seen = np.zeros(n, int)
    used = 0
    for start, end, first in table.tolist():
        assert start in offsets
        assert end == offsets[offsets.tolist().index(start) + 1]
        seen[first : min(first + tile, end)] += 1
        used += first < end
    assert (seen == 1).all()
    # No tile reaches into another sequence, and those too many cost no more than the partly filled ones.
    assert used == sum(-(-size // tile) for size in LENGTHS[shape])
    assert len(table) <= used + len(LENGTHS[shape])


# Numba alone


def test_heads_of_odd_width_are_for_fp32_alone() -> None:
    qkv, offsets = np.zeros((4, 3 * 15), np.uint16), np.array([0, 4])
    with pytest.raises(ValueError, match="odd width \\(15\\) are done in fp32 only"):
        encoder.attention(qkv, offsets, 1, scale=1.0)


def test_a_workspace_may_be_used_again() -> None:
    """What earlier texts left in its arrays, NaN included, does not show in a result."""
    make = Maker()
    ours = encoder.prepare(make.network(d=42, m=81))
    long, short = make.tokens([90, 3, 40]), make.tokens([7, 1, 20])
    fresh = graph.forward(cpu.Workspace(), ours, *short)
    used = cpu.Workspace()
    graph.forward(used, ours, *long)
    np.testing.assert_array_equal(graph.forward(used, ours, *short), fresh)
    for space in used._space.values():
        space[:] = 0xFF  # NaN in either width
    np.testing.assert_array_equal(graph.forward(used, ours, *short), fresh)


@numba.njit
def _halves(x, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = tile.to_bf16(x[i])


@numba.njit
def _wide(x, out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = tile.from_bf16(x[i])


@numba.njit
def _softmax(x, n, scale):  # type: ignore[no-untyped-def]
    return tile.softmax(x.ctypes.data, n, scale, 0)


@numba.njit
def _softmax_halves(x, n, scale, out):  # type: ignore[no-untyped-def]
    return tile.softmax_halves(x.ctypes.data, n, scale, out.ctypes.data)


@numba.njit
def _extremes(x, n, begin):  # type: ignore[no-untyped-def]
    return tile.extremes(x.ctypes.data + 4 * begin, n)


@numba.njit
def _powers(x, out, bytes_in, bytes_out):  # type: ignore[no-untyped-def]
    for i in range(len(x)):
        out[i] = tile.power_of_two(x[i])
    for i in range(len(bytes_in)):
        bytes_out[i] = tile.to_byte(bytes_in[i])
    return tile.pair(np.uint16(0x1234), np.uint16(0xFEDC))


def test_rounding_to_bfloat16() -> None:
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**32, 100_000, dtype=np.uint64).astype(np.uint32)
    ties = (np.arange(2**16, dtype=np.uint32) << 16) | 0x8000
    special = [0, 1, 0x7FFF, 0x8000, 0x8001, 0x7F7F_FFFF, 0x7F80_0000, 0x7F80_0001, 0x7FFF_FFFF, 0x7FC0_0000]
    signed = np.array([s | sign for s in special for sign in (0, 0x8000_0000)], np.uint32)
    x = np.concatenate([bits, ties, ties - 1, ties + 1, signed, bits >> 9]).view(np.float32)  # the last: denormals
    wanted = torch.from_numpy(x).to(torch.bfloat16).view(torch.uint16).numpy()
    one_by_one = np.empty(len(x), np.uint16)
    _halves(x, one_by_one)
    for found in (one_by_one, cpu.round_bf16(x), cpu.round_bf16(x[:, None])[:, 0]):
        odd = np.isnan(x)
        np.testing.assert_array_equal(found[~odd], wanted[~odd])
        assert np.isnan((found[odd].astype(np.uint32) << 16).view(np.float32)).all()


def test_bfloat16_to_float32() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    found = np.empty(len(bits), np.float32)
    _wide(bits, found)
    np.testing.assert_array_equal(found.view(np.uint32), bits.astype(np.uint32) << 16)


@pytest.mark.parametrize("behind", [np.nan, np.inf, 1e30, -np.inf])
@pytest.mark.parametrize("halves", [False, True])
def test_softmax_of_any_length(halves: bool, behind: float) -> None:
    """What stands behind a row takes no part, and is not written to beyond the row's last vector."""
    random, scale = np.random.default_rng(0), np.float32(0.7)
    for n in range(1, 51):
        whole = -(-n // tile.LANES) * tile.LANES
        x = tile.aligned(4 * (whole + tile.LANES)).view(np.float32)
        x[:] = behind
        x[:n] = random.standard_normal(n) * 10
        out = tile.aligned(2 * (whole + tile.LANES)).view(np.uint16)
        out[:] = 0x7FC0
        wanted = np.exp(np.float64(scale) * (x[:n].astype(np.float64) - x[:n].max()))
        if halves:
            total = _softmax_halves(x, n, scale, out)
            found = (out.astype(np.uint32) << 16).view(np.float32)
            assert np.isnan(found[whole:]).all()
        else:
            total = _softmax(x, n, scale)
            found = x
            np.testing.assert_array_equal(x[whole:], np.float32(behind))
        # In halves the exponential is off by 1e-4 before it is rounded, and the sum is of what was not.
        relative = 1e-4 if halves else 3e-6
        np.testing.assert_allclose(found[:n], wanted, rtol=relative + (2.0**-8 if halves else 0))
        np.testing.assert_allclose(total, wanted.sum(), rtol=relative)
        assert (found[n:whole] <= 2.4e-38).all()


def test_softmax_keeps_what_is_not_finite() -> None:
    for odd in (np.nan, np.inf):
        for n, place in ((1, 0), (5, 2), (40, 39), (40, 3)):
            x = tile.aligned(4 * 64).view(np.float32)
            x[place] = odd
            assert np.isnan(_softmax(x, n, np.float32(1)))
    x = tile.aligned(4 * 64).view(np.float32)
    x[:20], x[20] = -np.inf, 3
    np.testing.assert_allclose(_softmax(x, 21, np.float32(1)), 1)
    np.testing.assert_allclose(x[:21], [0] * 20 + [1], atol=2.4e-38)


def test_extremes_of_any_length() -> None:
    """From any address on, and without the neighbours; NaNs are passed over."""
    random = np.random.default_rng(0)
    for n in range(tile.LANES, tile.LANES + 40):
        for begin in (1, 3):
            x = np.full(n + 30, np.inf, np.float32)
            x[:begin] = -np.inf
            row = x[begin : begin + n]
            row[:] = random.standard_normal(n) - 5
            assert _extremes(x, n, begin) == (row.min(), row.max())
            row[random.permutation(n)[: n // 2]] = np.nan
            assert _extremes(x, n, begin) == (np.nanmin(row), np.nanmax(row))


def test_powers_of_two_bytes_and_pairs() -> None:
    exponents = np.arange(-126, 128)
    found = np.empty(len(exponents), np.float32)
    values = np.array([0, 0.4, 0.999, 1, 127.5, 128, 254.999, 255, 255.5], np.float32)
    as_bytes = np.empty(len(values), np.uint8)
    word = _powers((exponents + 12582912).astype(np.float32), found, values, as_bytes)
    np.testing.assert_array_equal(found, 2.0**exponents)
    np.testing.assert_array_equal(as_bytes, values.astype(int))
    assert np.int32(word).view(np.uint32) == 0xFEDC1234


@pytest.mark.parametrize(
    ("ids", "places"), [([0, 60], [0, 1]), ([-1, 0], [0, 1]), ([0, 1], [0, 600]), ([0, 1], [-1, 0])]
)
def test_numba_refuses_ids_outside_of_the_tables(ids: list[int], places: list[int]) -> None:
    part = encoder.prepare(Maker().network().embedding, backend="numba")
    with pytest.raises(ValueError, match=r"must be in \[0, "):
        encoder.embed(np.array(ids, np.int32), np.array(places, np.int32), part, backend="numba")
