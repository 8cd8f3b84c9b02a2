"""Rounding and scales of one matrix, against slow definitions and bounds that must hold."""

import dataclasses

import numpy as np
import pytest
from float_models import inputs
from tamale.codes import SPARSE_CODES
from tamale_model import integer
from tamale_model.model import FloatLinear
from tamale_model.packing import first_not_sparse
from tamale_model.quantise import gptq, scales, sparse
from tamale_model.quantise.method import GROUP_SIZES, Inputs, Method, quantise_matrix
from tamale_model.quantise.scales import Levels

SEEDS = range(3)


def case(seed, rows=24, k=150, group_size=64, levels=None, count=600):
    """(weights, levels, representable scales, damped Hessian) of a random matrix."""
    rng = np.random.default_rng(seed)
    print("seed", seed)
    weights = rng.standard_t(5, (rows, k)).astype(np.float32)
    levels = levels or Levels.of_trits(2)
    x = inputs(rng, count, k).astype(np.float64)
    hessian = gptq.damped(x.T @ x / count)
    scale, relative = scales.representable(scales.search(weights, levels, group_size))
    return weights, levels, np.float32(scale) * relative, hessian


def error(weights, values, wide, hessian, group_size=64):
    made = values * scales.expand(wide, group_size, weights.shape[1])
    return gptq.output_error(weights - made, hessian)


def test_factor():
    hessian = case(1)[3]
    upper = gptq.factor(hessian)
    assert np.array_equal(upper, np.triu(upper))
    assert np.allclose(upper.T @ upper @ hessian, np.eye(len(hessian)), atol=1e-8)


def slow_solve(weights, wide, levels, group_size, hessian):
    """Optimal brain surgeon's step for each column, with an inverse of its own."""
    order = np.argsort(-np.diagonal(hessian), kind="stable")
    rest = weights.astype(np.float64).copy()
    values = np.zeros(weights.shape, dtype=np.int64)
    for i, column in enumerate(order):
        free = order[i:]
        inverse = np.linalg.inv(hessian[np.ix_(free, free)])
        scale = wide[:, column // group_size].astype(np.float64)
        values[:, column] = np.clip(np.rint(rest[:, column] / scale), levels.low, levels.high)
        wrong = rest[:, column] - values[:, column] * scale
        rest[:, free] -= wrong[:, None] * inverse[0] / inverse[0, 0]
    return values


@pytest.mark.parametrize("seed", SEEDS)
def test_solve_by_definition(seed):
    weights, levels, wide, hessian = case(seed, rows=12)
    fast = gptq.solve(weights, wide, levels, 64, hessian)
    slow = slow_solve(weights, wide, levels, 64, hessian)
    # A near tie in float32 may go the other way, and the row's later columns with it.
    assert (fast != slow).any(axis=1).sum() <= 1
    assert abs(error(weights, fast, wide, hessian) / error(weights, slow, wide, hessian) - 1) < 0.01


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_solve_within_its_bound(seed, ordered):
    """Without clipping the output error is at most that of half a step at every column."""
    wide_levels = Levels(-60, 60)
    weights, levels, wide, hessian = case(seed, levels=wide_levels)
    wide = (2 * np.abs(weights).max() / 60 * np.ones_like(wide)).astype(np.float32)
    values = gptq.solve(weights, wide, levels, 64, hessian, ordered=ordered)
    assert np.abs(values).max() < 60
    order = gptq.column_order(hessian, ordered)
    upper = gptq.factor(hessian[np.ix_(order, order)])
    half = scales.expand(wide, 64, weights.shape[1])[0, order] / 2
    bound = float((np.square(half / np.diagonal(upper))).sum())
    found = error(weights, values, wide, hessian)
    plain = error(weights, gptq.nearest(weights, wide, levels, 64), wide, hessian)
    assert found < bound
    # Roundings are spread evenly over a step: a third of the bound is expected.
    assert found == pytest.approx(bound / 3, rel=0.25)
    # The case is one in which rounding to nearest would not do.
    assert plain > (1.5 * bound if ordered else bound / 2)


def test_order_helps():
    found = {}
    for ordered in (False, True):
        total = 0
        for seed in SEEDS:
            weights, levels, wide, hessian = case(seed)
            values = gptq.solve(weights, wide, levels, 64, hessian, ordered=ordered)
            total += error(weights, values, wide, hessian)
        found[ordered] = total
    assert found[True] < found[False]


def test_blocks_are_only_lazy(monkeypatch):
    weights, levels, wide, hessian = case(5, k=300)
    whole = gptq.solve(weights, wide, levels, 64, hessian)
    start = gptq.nearest(weights, wide, levels, 64)
    descended = gptq.descend(weights, start, wide, levels, 64, hessian)
    monkeypatch.setattr(gptq, "BLOCK", 37)
    other = gptq.solve(weights, wide, levels, 64, hessian)
    assert (whole != other).any(axis=1).sum() <= 1
    other = gptq.descend(weights, start, wide, levels, 64, hessian)
    assert (descended != other).any(axis=1).sum() <= 1


@pytest.mark.parametrize("seed", SEEDS)
def test_descent(seed):
    """The error falls from anywhere, until no single step lowers it."""
    weights, levels, wide, hessian = case(seed, rows=6, k=40, group_size=64)
    values = np.random.default_rng(seed).integers(-4, 5, weights.shape).astype(np.int8)
    last = error(weights, values, wide, hessian)
    for _ in range(30):
        values = gptq.descend(weights, values, wide, levels, 64, hessian)
        now = error(weights, values, wide, hessian)
        assert now <= last * (1 + 1e-5)
        last = now
    difference = weights - values * wide
    for j in range(weights.shape[1]):
        for step in (-1, 1):
            moved = difference.copy()
            inside = (values[:, j] + step >= levels.low) & (values[:, j] + step <= levels.high)
            moved[:, j] -= step * wide[:, 0]
            before = np.einsum("rk,kl,rl->r", difference, hessian, difference)
            after = np.einsum("rk,kl,rl->r", moved, hessian, moved)
            assert (after >= before * (1 - 1e-4))[inside].all()


def test_refit_is_least_squares():
    weights, levels, wide, hessian = case(3)
    values = gptq.nearest(weights, wide, levels, 64)
    values[2, 64:128] = 0  # a group of zeros keeps its scale
    fitted = scales.refit(weights, values, wide, hessian, 64)
    root = np.linalg.cholesky(hessian).T
    for row in range(len(weights)):
        columns = np.zeros((3, weights.shape[1]))
        for g in range(3):
            columns[g, 64 * g : 64 * g + 64] = values[row, 64 * g : 64 * g + 64]
        alive = columns.any(axis=1)
        best = np.linalg.lstsq(root @ columns[alive].T, root @ weights[row], rcond=None)[0]
        assert np.allclose(fitted[row, alive], best, rtol=0.02), row
        assert np.array_equal(fitted[row, ~alive], wide[row, ~alive])
    assert error(weights, values, fitted, hessian) < error(weights, values, wide, hessian)


@pytest.mark.parametrize(
    # Of 243 levels any scale is good, and the very best one is luck that only a fine grid has.
    ("trits", "each", "total"), [(1, 1.06, 1.01), (2, 1.06, 1.01), (3, 1.06, 1.01), (5, 3, 1.5)],
)  # fmt: skip
def test_search_against_a_fine_grid(trits, each, total):
    rng = np.random.default_rng(trits)
    weights = rng.standard_t(4, (9, 150)).astype(np.float32)
    importance = rng.lognormal(0, 1, 150)
    levels = Levels.of_trits(trits)
    found = scales.search(weights, levels, 64, importance)

    def loss(wide):
        made = gptq.nearest(weights, wide, levels, 64) * scales.expand(wide, 64, 150)
        return scales.grouped(np.square(weights - made) * importance, 64).sum(axis=-1)

    grid = scales.absmax(weights, levels, 64)
    best = np.min([loss(grid * np.float32(f)) for f in np.linspace(0.1, 1.1, 2000)], axis=0)
    assert (loss(found) <= each * best).all()
    assert loss(found).sum() <= total * best.sum()
    assert loss(found).sum() < loss(grid).sum()


def test_groups_have_scales_of_their_own():
    """Weights of magnitudes far apart, the boundary of groups between them, the last one short."""
    rng = np.random.default_rng(8)
    print("seed 8")
    size = np.repeat([1, 300, 0.02], 64)[:150]
    weights = (rng.normal(0, 1, (10, 150)) * size).astype(np.float32)
    method = Method.of_trits(5, 64)
    result, _ = quantise_matrix(FloatLinear(weights), method, Inputs(np.eye(150), method))
    assert result.scales.shape == (10, 3) and result.group_size == 64
    wrong = (result.dequantised() - weights) / size
    for group in range(3):
        assert wrong[:, 64 * group : 64 * group + 64].std() < 0.02, group


@pytest.mark.parametrize("seed", SEEDS)
def test_scales_that_the_device_holds(seed):
    rng = np.random.default_rng(seed)
    wanted = rng.lognormal(-3, 1.2, (40, 7))
    wanted[3, 2] = 0
    scale, relative = scales.representable(wanted)
    assert float(integer.Scalar.of(scale)) == scale
    assert relative.max() == 1 and relative[3, 2] == 0
    alive = wanted > 0
    assert np.abs(scale * relative[alive] / wanted[alive] - 1).max() < 2.0**-11
    for top in (2.0**-3, 1.0, 8.0):
        for value in relative.reshape(-1):
            code = integer.encode_scale(integer.Scalar.of(float(value) * top))
            significand, bits = integer.decode_scale(code)
            assert np.ldexp(float(significand), -int(bits)) == value * top


def test_scales_out_of_reach_are_zero():
    scale, relative = scales.representable(np.array([[1.0, 2.0**-14, 2.0**-17]]))
    assert scale == 1 and relative.tolist() == [[1, 2.0**-14, 0]]
    scale, relative = scales.representable(np.zeros((2, 3)))
    assert scale == 1 and relative.shape == (2, 3)


def matrix(seed, rows=40, k=150):
    rng = np.random.default_rng(seed)
    weights = (rng.standard_t(5, (rows, k)) / np.sqrt(k)).astype(np.float32)
    return FloatLinear(weights), inputs(rng, 800, k).astype(np.float64)


@pytest.mark.parametrize("group_size", GROUP_SIZES)
def test_more_trits_lose_less(group_size):
    linear, x = matrix(group_size)
    hessian, last = x.T @ x / len(x), 1.0
    for trits in range(1, 6):
        method = Method.of_trits(trits, group_size)
        result, lost = quantise_matrix(linear, method, Inputs(hessian, method))
        plain, lost_plainly = quantise_matrix(linear, method.plain(), Inputs(hessian, method))
        assert result.planes == trits and np.abs(result.values).max() <= (3**trits - 1) // 2
        assert result.values.dtype == np.int8 and result.scales.dtype == np.float32
        direct = np.square((linear.weights - result.dequantised()) @ x.T).sum()
        direct /= np.square(linear.weights @ x.T).sum()
        assert direct == pytest.approx(lost, rel=0.01)
        assert lost < last / 3, trits
        assert lost < 0.6 * lost_plainly
        assert plain.scales.max() == 1
        last = lost


def test_three_trits_against_int4():
    for seed in SEEDS:
        linear, x = matrix(seed)
        lost = {}
        for label, method in (("trits", Method.of_trits(3)), ("int4", Method.int4())):
            lost[label] = quantise_matrix(linear, method, Inputs(x.T @ x / len(x), method))[1]
        assert lost["trits"] < lost["int4"]


def test_refits_help():
    method = Method.of_trits(2)
    lost = {}
    for refits in (0, 1, 3):
        changed = dataclasses.replace(method, refits=refits)
        total = 0
        for seed in SEEDS:
            linear, x = matrix(seed)
            total += quantise_matrix(linear, changed, Inputs(x.T @ x / len(x), changed))[1]
        lost[refits] = total
    assert lost[3] < lost[1] < lost[0]


def test_correction_for_other_inputs():
    """Inputs that are off by a known map: the corrected weights undo it."""
    linear, x = matrix(2)
    rng = np.random.default_rng(2)
    turned = x @ (np.eye(150) + 0.05 * rng.normal(0, 1, (150, 150)))
    lost = {}
    for correction in (0.0, 0.5, 1.0):
        method = Method.of_trits(5, correction=correction, damping=1e-3)
        cross = x.T @ turned / len(x) if correction else None
        known = Inputs(turned.T @ turned / len(x), method, cross)
        made, _ = quantise_matrix(linear, method, known)
        lost[correction] = np.square(made.dequantised() @ turned.T - linear.weights @ x.T).sum()
    assert lost[1.0] < 0.3 * lost[0.5] < 0.3 * lost[0.0]


def test_degenerate_inputs():
    """Inputs that never vary, weights that are zero, one that dwarfs its group."""
    linear, x = matrix(4)
    x[:, :20] = 0
    weights = linear.weights.copy()
    weights[0] = 0
    weights[:, 70:140] = 0
    weights[5, 3] = 1e4
    linear = FloatLinear(weights, bias=np.ones(40, np.float32), norm=np.ones(150, np.float32))
    method = Method.of_trits(3, 64)
    for hessian in (x.T @ x / len(x), np.zeros((150, 150))):
        result, lost = quantise_matrix(linear, method, Inputs(hessian, method))
        assert np.isfinite(lost) and np.isfinite(result.dequantised()).all()
        assert not result.dequantised()[0].any()
        assert result.bias is linear.bias and result.norm is linear.norm
        # Columns without inputs are rounded to nearest, not dropped.
        assert abs(result.dequantised()[5, 3] / 1e4 - 1) < 0.05
        assert result.values[6:, :20].any()


def is_sparse(values):
    return first_not_sparse(values) is None and np.abs(values).max() == 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("group_size", [0, 64])
def test_sparse_rounding(seed, group_size):
    weights, _, _, hessian = case(seed, k=192)
    values = sparse.nearest(weights)
    assert is_sparse(values)
    quads = np.abs(weights).reshape(24, -1, 4)
    assert np.array_equal(values.reshape(quads.shape) == 0, quads == quads.min(axis=2)[..., None])
    assert np.array_equal(values[values != 0], np.sign(weights)[values != 0])
    scales_ = sparse.mean_scales(weights, values, group_size, np.ones(192))
    kept = scales.grouped(np.abs(weights) * (values != 0), group_size).sum(axis=2)
    assert np.allclose(scales_, kept / (0.75 * (group_size or 192)))

    def lost(found):
        return error(weights, found, scales_, hessian, group_size)

    aware = sparse.solve(weights, scales_, group_size, hessian)
    better = sparse.descend(weights, aware, scales_, group_size, hessian)
    best = sparse.descend(weights, aware, scales_, group_size, hessian, passes=8)
    assert is_sparse(aware) and is_sparse(better) and is_sparse(best)
    assert lost(best) <= lost(better) < lost(aware) < 0.9 * lost(values)


def test_sparse_descent_finds_the_best_quad():
    weights, _, _, hessian = case(5, k=4)
    scales_ = sparse.mean_scales(weights, sparse.nearest(weights), 0, np.ones(4))
    found = sparse.descend(weights, sparse.nearest(weights), scales_, 0, hessian)
    for row in range(len(weights)):
        costs = {
            trits: gptq.output_error(weights[row : row + 1] - scales_[row] * [trits], hessian)
            for trits in SPARSE_CODES["s34"].decode
        }
        assert costs[tuple(found[row].tolist())] == min(costs.values())


def test_sparse_matrix():
    linear, x = matrix(6)
    linear = FloatLinear(linear.weights[:, :148])
    method = Method.of_sparse(0)
    inputs_ = Inputs(x[:, :148].T @ x[:, :148] / len(x), method)
    result, lost = quantise_matrix(linear, method, inputs_)
    plain, _ = quantise_matrix(linear, method.plain())
    assert is_sparse(result.values) and is_sparse(plain.values)
    assert result.planes == plain.planes == 1
    assert lost < gptq.output_error(
        linear.weights - plain.dequantised(), inputs_.measured
    ) / gptq.output_error(linear.weights, inputs_.measured)
    # Zeros, and trits that are there already.
    weights = linear.weights.copy()
    weights[0] = weights[:, 8:12] = 0
    result, _ = quantise_matrix(FloatLinear(weights), method, inputs_)
    assert is_sparse(result.values) and not result.dequantised()[0].any()
    again, _ = quantise_matrix(plain, method, inputs_)
    assert is_sparse(again.values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dataclasses.replace(Method.of_trits(2), sparse=True), "have one trit, not 2"),
        (
            lambda: quantise_matrix(matrix(1)[0], Method.of_sparse(0).plain()),
            "rows of 150 weights are no whole groups of 4; 3:4 sparse codes need that$",
        ),
        (
            lambda: quantise_matrix(
                FloatLinear(np.ones((2, 100), np.float32)), Method.of_sparse(64).plain()
            ),
            "rows of 100 weights are no whole groups of 64; .*so share scales by rows",
        ),
        (lambda: Method.of_trits(6), "1 to 5 trits, not 6"),
        (lambda: Method.of_trits(0), "1 to 5 trits, not 0"),
        (lambda: Method.of_trits(3, 100), "groups of 100 weights are not known to the device"),
        (lambda: Method(Levels(-8, 7), 2), "do not fit 2 trits"),
        (lambda: quantise_matrix(matrix(1)[0], Method.of_trits(2)), "needs the inputs"),
        (lambda: gptq.damped(np.full((2, 2), np.nan)), "calibration activations are not finite"),
        (
            lambda: quantise_matrix(
                FloatLinear(np.full((2, 8), np.inf, np.float32)), Method.of_trits(2).plain()
            ),
            "values that are not finite",
        ),
    ],
)
def test_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
