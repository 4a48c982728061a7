"""The searches behind the simplex and the l1 ball: every path, at every scale, against exact arithmetic."""

import threading
from fractions import Fraction

import pytest
import torch

from lablib import L1Ball, threshold

PATHS = {
    "sort": {"SORT_ROWS": 10**9, "NUMPY_ROWS": 10**9, "NUMPY_ALL": 10**9},
    "sort by numpy": {"SORT_ROWS": 10**9, "NUMPY_ROWS": 0},
    "climb": {"SORT_ROWS": 0, "SORT_ALL": 0, "CUT_ROWS": 10**9},
    "climb in its own dtype": {"SORT_ROWS": 0, "SORT_ALL": 0, "CUT_ROWS": 16, "CUT_ALL": 10**9},
    "climb in pieces": {"SORT_ROWS": 0, "SORT_ALL": 0, "CUT_ROWS": 16, "CUT_ALL": 10**9, "CHUNK": 1024},
    "cut": {"SORT_ROWS": 0, "SORT_ALL": 0, "CUT_ROWS": 16, "CUT_ALL": 0},
}


@pytest.fixture(params=list(PATHS))
def path(request, monkeypatch):
    """Send every row down one path, whatever its length."""
    for name, value in PATHS[request.param].items():
        monkeypatch.setattr(threshold, name, value)
    monkeypatch.setattr(threshold, "_kept", threading.local())
    return request.param


def exact(row, total):
    """The projection of one row of floats on the simplex, in fractions, and its support."""
    row = [Fraction(value) for value in row.tolist()]
    total, part, tau = Fraction(total), Fraction(0), None
    for count, value in enumerate(sorted(row, reverse=True), 1):
        part += value
        bound = (part - total) / count
        tau = bound if tau is None else max(tau, bound)
    return torch.tensor([float(max(value - tau, 0)) for value in row], dtype=torch.float64), [v > tau for v in row]


def assert_simplex(y, total, x, support, highest=False):
    """Compare with the exact answer to the last digits, and the support without any tolerance."""
    eps = torch.finfo(y.dtype).eps
    free, q = threshold.dense(support, y.shape[-1])
    for i in range(y.shape[0]):
        goal = total if isinstance(total, float) else float(total[i])
        right, above = exact(y[i], goal)
        near = max(goal, float(right.max()))
        torch.testing.assert_close(x[i].double(), right, rtol=4 * eps, atol=4 * eps * near)
        assert abs(float(x[i].double().sum()) - goal) <= (4 if y.dtype == torch.float32 else 64) * eps * goal
        assert (free[i] > 0).tolist() == above
    assert torch.equal(free, q.abs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 3e-3, 1e-30, 1e30])
@pytest.mark.parametrize("n", [1, 17, 67, 300])
def test_simplex_is_exact_on_every_path(path, n, scale, dtype):
    y = torch.randn(6, n, dtype=dtype) * scale
    for total in (1.0, 0.3 * scale, 40.0 * scale):
        x, support, _ = threshold.simplex(y, total)
        assert_simplex(y, total, x, support)


@pytest.mark.parametrize("n", [5, 40, 300])
def test_ties_and_sorted_rows(path, n):
    y = torch.stack([torch.zeros(n), torch.arange(n) // 2 * 0.5, -torch.arange(n) * 1.0, (torch.arange(n) % 3) * 1.0])
    for total in (1.0, 0.25, 8.0):
        x, support, _ = threshold.simplex(y, total)
        assert_simplex(y, total, x, support)


@pytest.mark.parametrize("n", [8, 64, 301])
def test_totals_by_row_and_total_zero(path, n):
    y = torch.randn(5, n)
    total = torch.tensor([0.0, 1.0, 0.5, 7.0, 1e-6])
    x, support, _ = threshold.simplex(y, total)
    assert_simplex(y, total, x, support)
    assert torch.equal(x[0], torch.zeros(n))
    assert torch.equal(threshold.face(torch.ones(5, n), support)[0], torch.zeros(n))


@pytest.mark.parametrize("n", [9, 65, 302])
def test_weakly_active_entries(path, n):
    # tau = 0: the entries equal to 0 are on the edge of the support.
    y = torch.full((2, n), -1.0)
    y[:, :3] = torch.tensor([0.75, 0.0, 0.25])
    lowest = threshold.dense(threshold.simplex(y, 1.0)[1], n)[0]
    highest = threshold.dense(threshold.simplex(y, 1.0, element="highest")[1], n)[0]
    assert lowest[:, :4].tolist() == [[1, 0, 1, 0]] * 2
    assert highest[:, :4].tolist() == [[1, 1, 1, 0]] * 2
    # On the sphere itself the one constraint is weakly active: freed, nothing holds.
    radius = float(y.abs().sum(-1)[0])
    assert threshold.dense(threshold.l1(y, radius, element="highest")[1], n)[0].min() == 1
    assert threshold.dense(threshold.l1(y, radius)[1], n)[1].abs().sum() > 0


@pytest.mark.parametrize("n", [6, 70, 400])
def test_l1_inside_outside_and_radius_zero(path, n):
    y = torch.randn(5, n)
    norm = y.abs().sum(-1)
    radius = torch.stack([norm[0] * 2, norm[1] / 2, norm[2] / 50, torch.tensor(0.0), norm[4] + 1])
    x, support, _ = threshold.l1(y, radius)
    free, q = threshold.dense(support, n)
    v = torch.randn(5, n)
    u = threshold.face(v, support)
    for i in (0, 4):
        assert torch.equal(x[i], y[i])
        assert torch.equal(u[i], v[i])
    for i in (1, 2):
        right, above = exact(y[i].abs(), float(radius[i]))
        torch.testing.assert_close(x[i].double(), right * y[i].sign(), rtol=1e-6, atol=1e-6 * float(radius[i]))
        assert free[i].bool().tolist() == above
        assert torch.equal(q[i], free[i] * y[i].sign())
        assert float((u[i] * x[i].sign()).sum().abs()) < 1e-5
    assert torch.equal(x[3].abs(), torch.zeros(n))
    assert torch.equal(u[3], torch.zeros(n))


@pytest.mark.parametrize("search", [threshold.simplex, threshold.l1])
@pytest.mark.parametrize("element", ["lowest", "highest"])
def test_face_is_the_projector_on_the_face(path, search, element):
    y = torch.randn(4, 50, dtype=torch.float64)
    support = search(y, 1.0, element=element)[1]
    free, q = threshold.dense(support, 50)
    u = threshold.face(y, support)
    for i in range(4):
        normal = torch.cat([torch.eye(50, dtype=y.dtype)[free[i] == 0], q[i : i + 1]])
        right = y[i] - normal.T @ torch.linalg.lstsq(normal.T, y[i]).solution
        torch.testing.assert_close(u[i], right)
    v = torch.randn(4, 50, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: threshold.face(v, support), v)


def test_long_sparse_rows_are_cut_and_dense_rows_are_not():
    y = torch.randn(64, 1000)
    support = threshold.simplex(y, 1.0)[1]
    assert len(support) == 3
    assert support[0].shape[-1] < 64
    assert len(threshold.simplex(y / 1000, 1.0)[1]) == 2


def test_the_cut_misses_nothing_when_one_block_holds_all():
    y = torch.full((64, 1024), -5.0)
    y[:, ::128] = torch.rand(64, 8)
    y[:, -1] = 0.5
    x, support, _ = threshold.simplex(y, 2.0)
    assert len(support) == 3
    assert_simplex(y, 2.0, x, support)


def test_any_batch_shape_and_stride(path):
    y = torch.randn(3, 40, 2, 300)
    for view in (y, y.transpose(0, 2), y[..., ::2], y[:, :0]):
        x, support, _ = threshold.simplex(view, 1.0)
        assert x.shape == view.shape
        flat, _, _ = threshold.simplex(view.reshape(-1, view.shape[-1]), 1.0)
        assert torch.equal(x.reshape(flat.shape), flat)
        assert all(t.shape[:-1] == view.shape[:-1] for t in support)
        assert threshold.face(view, support).shape == view.shape


def test_the_input_is_left_alone_and_no_answer_lives_in_scratch_memory(path):
    y = torch.randn(8, 300)
    before = y.clone()
    first = threshold.l1(y, 1.0)[0]
    kept = first.clone()
    threshold.l1(torch.randn(8, 300), 1.0)
    assert torch.equal(y, before)
    assert torch.equal(first, kept)


@pytest.mark.parametrize("n", [256, 257, 301, 1001, 1003, 1022, 2047])
@pytest.mark.parametrize("search", [threshold.simplex, threshold.l1])
def test_the_cut_agrees_with_the_sort_where_blocks_are_uneven(search, n, monkeypatch):
    cut = 0
    for total in (0.3, 1.0, 3.0):
        y = torch.randn(40000 // n + 200, n)
        # In some rows the last columns, which only some blocks have, hold the largest entries.
        y[::3, -5:] += 3
        x, support, _ = search(y, total)
        cut += not support[0].is_floating_point()
        with monkeypatch.context() as change:
            change.setattr(threshold, "SORT_ROWS", n)
            right, other, _ = search(y, total)
        torch.testing.assert_close(x, right, rtol=1e-5, atol=1e-6)
        assert torch.equal(threshold.dense(support, n)[1], threshold.dense(other, n)[1])
    assert cut >= 2


def test_many_ties_share_no_rounding():
    y = torch.full((64, 1001), -5.0)
    y[:, 700:790] = 0.25 * torch.rand(64, 1)
    y[:, 0] = 0.5
    x, support, _ = threshold.simplex(y, 3.0)
    assert_simplex(y, 3.0, x, support)


def test_threads_do_not_share_scratch_memory():
    y = [torch.randn(64, 700) / 700 for _ in range(4)]
    addresses = {threshold._scratch(torch.empty(4)).data_ptr()}
    other = threading.Thread(target=lambda: addresses.add(threshold._scratch(torch.empty(4)).data_ptr()))
    other.start()
    other.join()
    assert len(addresses) == 2
    right = [threshold.simplex(part, 1.0)[0] for part in y]
    found = [None] * 4

    def work(i):
        for _ in range(5):
            found[i] = threshold.simplex(y[i], 1.0)[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(map(torch.equal, found, right))


def test_max_steps_caps_the_passes():
    y = torch.randn(256, 200)
    full, _, passes = threshold.simplex(y, 20.0)
    capped, _, used = threshold.simplex(y, 20.0, max_steps=1)
    assert used == 1 < passes
    assert float(capped.sum(-1).max()) > 20.01
    assert float(full.sum(-1).max()) < 20.0001


@pytest.mark.parametrize("search", [threshold.simplex, threshold.l1])
def test_compiled_in_one_graph(search):
    y = torch.randn(8, 400)
    compiled = torch.compile(lambda y: search(y, 1.0)[0], backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(y), search(y, 1.0)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e13, 1e25, 1e30, 1e-30])
def test_weights_of_one_change_nothing_at_any_scale(scale, dtype):
    y = torch.randn(20, 7, dtype=dtype, generator=torch.Generator().manual_seed(0)) * scale
    for radius in (1.0, 0.3 * scale, 40.0 * scale):
        plain, weighted = L1Ball(7, radius), L1Ball(7, radius, torch.ones(7, dtype=dtype))
        torch.testing.assert_close(weighted.project(y), plain.project(y), rtol=1e-6, atol=1e-7 * radius)


@pytest.mark.parametrize("power", [-60, -43, 0, 40, 43, 47, 90])
def test_weights_and_point_scale_together(power):
    # Powers of two round nothing. Ratios stay as they are, so that the point must be that of the radius alone.
    c = 2.0**power
    y, w = torch.tensor([2.0, -3.0, 0.5]).double(), torch.tensor([1.0, 0.5, 0.25]).double()
    right = L1Ball(3, 1.0 / c**2, w).project(y) * c
    torch.testing.assert_close(L1Ball(3, 1.0, c * w).project(c * y), right, rtol=1e-12, atol=0)
    if power > 0:
        torch.testing.assert_close(right, torch.tensor([0.0, -2.0 / c, 0.0]).double(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("n", [10, 200, 4000])
def test_off_the_cpu_no_value_is_read_on_the_host(n):
    """A tensor without values stands for a card: whoever reads one of its values on the host raises."""
    y = torch.zeros(64, n, device="meta")
    x, _ = threshold.simplex(y, 1.0)[:2]
    assert x.shape == y.shape and x.device.type == "meta"
