"""What is wrong with an input is said: which argument, which index, what was expected."""

import math

import pytest
import torch

from lablib import Affine, Box, BoxBudget, L1Ball, ProjectionLayer, Simplex, SolveError

NAN, INF = math.nan, math.inf
SETS = [
    Box(0.0, 1.0),
    Box(torch.zeros(3), 1.0),
    Simplex(3),
    Simplex(3, torch.tensor(1.0)),
    L1Ball(3),
    L1Ball(3, 1.0, torch.ones(3)),
    BoxBudget(0.0, 1.0, torch.ones(3), 2.0),
    Affine(torch.ones(1, 3), torch.tensor([1.0])),
]
every_set = pytest.mark.parametrize("s", SETS, ids=repr)


@every_set
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_an_entry_that_is_no_number_is_named(s, bad):
    y = torch.zeros(4, 3)
    y[2, 1] = bad
    with pytest.raises(SolveError, match=rf"y\[2, 1\] is {bad}: expected finite numbers") as caught:
        s.project(y)
    assert isinstance(caught.value, ValueError) and caught.value.index == (2, 1)
    with pytest.raises(SolveError, match="expected finite numbers"):
        torch.vmap(s.project)(y)


def test_sums_that_overflow_are_not_mistaken_for_infinity():
    assert Box(-1.0, 1.0).project(torch.full((4,), 3e38)).tolist() == [1.0] * 4


@every_set
def test_integers_are_refused(s):
    for y in (torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.bool)):
        with pytest.raises(TypeError, match=r"y has dtype torch\.(int64|bool): expected a floating point tensor"):
            s.project(y)
    with pytest.raises(TypeError, match="y is a list: expected a torch tensor"):
        s.project([0.0, 0.0, 0.0])


@every_set
def test_eight_bits_and_sparse_tensors_are_refused_with_a_remedy(s):
    with pytest.raises(TypeError, match=r"y has dtype torch\.float8_e4m3fn: expected 16 bits or more; call .float\(\)"):
        s.project(torch.zeros(3).to(torch.float8_e4m3fn))
    with pytest.raises(TypeError, match=r"y has layout torch\.sparse_coo: expected a dense tensor; call .to_dense\(\)"):
        s.project(torch.zeros(2, 3).to_sparse())


def test_an_answer_too_large_for_half_precision_is_no_infinity():
    y = torch.zeros(2, 3, dtype=torch.float16)
    with pytest.raises(SolveError, match=r"overflows torch.float16 at entry \[0, 0\], which is 100000: use a wider"):
        Simplex(3, total=3e5).project(y)
    assert Simplex(3, total=3e4).project(y).tolist() == [[1e4] * 3] * 2
    assert torch.vmap(Simplex(3, total=3e5).project)(y).isinf().all()


def test_a_learned_size_below_zero_is_told_how_to_become_positive():
    for build in (lambda r: L1Ball(3, r), lambda r: Simplex(3, r)):
        with pytest.raises(
            ValueError, match="is -1: expected a finite number that is not negative; a network's output"
        ):
            build(torch.tensor([-1.0]))
    with pytest.raises(ValueError, match="in this interval; clamp a learned one to it"):
        BoxBudget(0.0, 1.0, torch.ones(3), torch.tensor([4.0])).project(torch.zeros(1, 3))


@pytest.mark.parametrize("s", [s for s in SETS if s.dim], ids=repr)
def test_a_wrong_dimension_is_named(s):
    with pytest.raises(ValueError, match=r"y has shape \(2, 4\): .* expected a last dimension of 3"):
        s.project(torch.zeros(2, 4))
    with pytest.raises(ValueError, match=r"y has shape \(\)"):
        s.project(torch.tensor(1.0))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Box(2.0, 1.0), r"lower is 2: expected a number that is at most upper, which is 1"),
        (lambda: Box(torch.tensor([0.0, 2.0]), 1.0), r"lower\[1\] is 2: expected .* at most upper, which is 1"),
        (lambda: Box(torch.tensor([0.0, NAN]), 1.0), r"lower\[1\] is nan"),
        (lambda: Box(INF, INF), r"lower is inf"),
        (lambda: Simplex(3, -1.0), r"total is -1: expected a finite number that is not negative"),
        (lambda: Simplex(3, torch.tensor([1.0, -2.0])), r"total\[1\] is -2"),
        (lambda: Simplex(0), r"dim is 0: expected at least 1"),
        (lambda: L1Ball(3, -1.0), r"radius is -1: expected a finite number that is not negative"),
        (lambda: L1Ball(3, INF), r"radius is inf"),
        (lambda: L1Ball(3, 1.0, torch.tensor([1.0, -1.0, 1.0])), r"weights\[1\] is -1"),
        (lambda: L1Ball(3, 1.0, torch.ones(4)), r"weights has shape \(4,\): expected a last dimension of 3"),
        (lambda: Box(torch.zeros(3), torch.ones(4)), r"upper has shape \(4,\): expected a last dimension of 3"),
        (lambda: BoxBudget(0.0, 1.0, torch.tensor([1.0, NAN]), 1.0), r"weights\[1\] is nan: expected a finite"),
        (lambda: BoxBudget(0.0, 1.0, torch.ones(2), NAN), r"budget is nan"),
        (lambda: BoxBudget(0.0, 1.0, torch.ones(2), 3.0), r"empty: budget is 3, .* reaches only \[0, 2\]"),
        (lambda: BoxBudget(0.0, 1.0, torch.ones(2), torch.tensor([1.0, -1.0])), r"empty: budget\[1\] is -1"),
        (lambda: Affine(torch.ones(2, 3), torch.ones(3)), r"b has shape \(3,\): expected a last dimension of 2"),
        (lambda: Affine(torch.ones(3), torch.ones(1)), r"A has shape \(3,\): expected at least 2 dimension"),
        (lambda: Affine(torch.tensor([[INF, 1.0]]), 1.0), r"A\[0, 0\] is inf"),
    ],
)
def test_bad_data_are_refused_at_once(build, says):
    with pytest.raises(ValueError, match=says) as caught:
        build()
    assert isinstance(caught.value, SolveError)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Simplex(3, torch.tensor(1)), r"total has dtype torch.int64: expected a floating point tensor"),
        (lambda: Simplex(3.0), r"dim is a float: expected an integer"),
        (lambda: L1Ball(3, "1"), r"radius is a str: expected a number or a torch tensor"),
        (lambda: Affine([[1.0]], 1.0), r"A is a list: expected a torch tensor"),
        (lambda: Box([0.0], 1.0), r"lower is a list"),
    ],
)
def test_data_of_a_wrong_type_are_refused(build, says):
    with pytest.raises(TypeError, match=says):
        build()


@pytest.mark.parametrize(
    ("s", "name", "value", "says"),
    [
        (Box(torch.zeros(3), torch.ones(3)), "lower", [0.0, 0.0, 2.0], r"lower\[2\] is 2: .*upper, which is 1"),
        (Simplex(3, torch.tensor(1.0)), "total", -1.0, r"total is -1"),
        (L1Ball(3, torch.tensor(1.0)), "radius", NAN, r"radius is nan"),
        (L1Ball(3, 1.0, torch.ones(3)), "weights", [1.0, 1.0, -3.0], r"weights\[2\] is -3"),
        (BoxBudget(torch.zeros(3), 1.0, 1.0, torch.tensor(1.0)), "budget", 4.0, r"empty: budget\[0\] is 4"),
        (BoxBudget(torch.zeros(3), 1.0, 1.0, torch.tensor(1.0)), "lower", [0.0, 2.0, 0.0], r"lower\[1\] is 2"),
        (Affine(torch.ones(1, 3), torch.tensor([1.0])), "b", [NAN], r"b\[0\] is nan"),
        (Affine(torch.ones(1, 3), torch.tensor([1.0])), "A", [[1.0, INF, 1.0]], r"A\[0, 1\] is inf"),
    ],
)
def test_data_that_go_bad_later_are_refused_then(s, name, value, says):
    changed = s.with_data(**{name: torch.tensor(value)})
    with pytest.raises(SolveError, match=says):
        changed.project(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("s", "name", "value", "says"),
    [
        (Simplex(3), "total", -2, r"total is -2"),
        (Simplex(3), "total", NAN, r"total is nan"),
        (Simplex(3), "total", INF, r"total is inf"),
        (L1Ball(3), "radius", -1, r"radius is -1"),
        (L1Ball(3), "weights", -1, r"weights is -1"),
        (Box(0.0, 1.0), "lower", 2.0, r"lower is 2: .*upper, which is 1"),
        (Box(0.0, 1.0), "lower", NAN, r"lower is nan"),
        (BoxBudget(0.0, 1.0, 1.0, 2.0), "budget", INF, r"budget is inf: expected a finite number"),
        (BoxBudget(0.0, 1.0, 1.0, 2.0, dim=3), "budget", 4.0, r"empty: budget is 4"),
        (BoxBudget(0.0, 1.0, 1.0, 2.0), "lower", INF, r"lower is inf"),
        (BoxBudget(-1.0, 1.0, 1.0, 0.0), "upper", -INF, r"which is -inf"),
        (Affine(torch.ones(1, 3), 1.0), "b", NAN, r"b is nan: expected a finite number$"),
    ],
)
def test_numbers_that_go_bad_later_are_refused_at_once(s, name, value, says):
    for change in (
        lambda: s.with_data(**{name: value}),
        lambda: ProjectionLayer(s)(torch.zeros(3), **{name: value}),
        lambda: setattr(s, name, value),
    ):
        with pytest.raises(SolveError, match=says):
            change()
    assert getattr(s, name) is None or math.isfinite(getattr(s, name))


@pytest.mark.parametrize("bound", [(INF, INF), (-INF, -INF)])
def test_a_budget_needs_finite_numbers(bound):
    with pytest.raises(SolveError, match=r"lower is -?inf"):
        BoxBudget(*bound, 1.0, 1.0)
    for budget in (INF, -INF, torch.tensor(INF)):
        with pytest.raises(SolveError, match=r"budget is -?inf"):
            BoxBudget(-INF, INF, 1.0, budget)
    with pytest.raises(SolveError, match="budget is inf"):
        BoxBudget(-INF, INF, 1.0, 1.0).with_data(budget=torch.tensor(INF)).project(torch.zeros(3))


def test_a_replaced_datum_is_a_datum():
    s = Simplex(3)
    s.total = torch.tensor(2.0)
    assert s.names == ("total",) and s.project(torch.zeros(3)).sum() == 2


def test_none_and_integer_casts_are_refused():
    for build in (lambda: Simplex(3, total=None), lambda: Simplex(3).with_data(total=None)):
        with pytest.raises(TypeError, match="total is None: expected a number"):
            build()
    with pytest.raises(TypeError, match=r"total cannot be cast to torch.int64"):
        Simplex(3, torch.tensor(1.0)).to(torch.int64)


@pytest.mark.parametrize("s", [s for s in SETS if s.names], ids=repr)
def test_mixed_dtypes_and_devices_name_the_cure(s):
    name = s.names[0]
    with pytest.raises(
        ValueError, match=rf"{name} has dtype torch.float32 and y torch.float64: .*\.to\(torch.float64\)"
    ):
        s.project(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(ValueError, match=rf"{name} is on cpu and y on meta: .*\.to\('meta'\)"):
        s.project(torch.zeros(3, device="meta"))
    with pytest.raises(ValueError, match=rf"{name} is on meta and y on cpu"):
        s.to("meta").project(torch.zeros(3))


@every_set
def test_the_oracles_check_their_argument(s):
    n = s.dim or 3
    calls = {"g": (s.lmo,), "x": (s.violation, s.contains, lambda x: s.gap(torch.zeros(n), x))}
    for name, oracles in calls.items():
        for oracle in oracles:
            with pytest.raises(TypeError, match=f"{name} has dtype torch.int64: expected a floating"):
                oracle(torch.zeros(n, dtype=torch.int64))
            with pytest.raises(TypeError, match=f"{name} is a list: expected a torch tensor"):
                oracle([0.0] * n)
            with pytest.raises(ValueError, match=rf"{name} has shape \(\)"):
                oracle(torch.tensor(0.0))
            if s.dim:
                with pytest.raises(ValueError, match=rf"{name} has shape \(2, 4\): .* a last dimension of 3"):
                    oracle(torch.zeros(2, 4))
    with pytest.raises(SolveError, match=r"g\[1\] is nan: expected finite numbers$"):
        s.lmo(torch.tensor([0.0, NAN, 0.0]))
    assert not s.contains(torch.full((3,), NAN))


@pytest.mark.parametrize(
    ("s", "y"),
    [
        (Simplex(3, 1e5), torch.zeros(3, dtype=torch.float16) + torch.tensor([6e4, 0, 0]).half()),
        (Affine(torch.tensor([[1e-3]]), torch.tensor([1e38])), torch.zeros(1)),
    ],
)
def test_an_answer_that_overflows_is_not_converged(s, y):
    with pytest.raises(SolveError, match=r"overflows torch\.float\d\d at batch index \[\]: expected a point"):
        s.project(y, return_info=True)
    x, info = s.project(y, strict=False)
    assert not info.converged and not bool(x.isfinite().all())


@pytest.mark.parametrize("options", [{"return_info": True}, {"tol": 1e-3}, {"max_steps": 9}, {"strict": False}])
def test_options_without_effect_in_a_transform_are_refused(options):
    f = lambda y: Simplex(3).project(y, **options)  # noqa: E731
    with pytest.raises(SolveError, match=r"not available inside a transform of torch.func: drop them"):
        torch.vmap(f)(torch.zeros(2, 3))
    with pytest.raises(Exception, match=r"InputError|not available under torch.compile"):
        torch.compile(f, backend="eager", fullgraph=True)(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({"tol": -1.0}, SolveError, "tol is -1.0: expected a number that is not negative"),
        ({"tol": NAN}, SolveError, "tol is nan"),
        ({"tol": "1"}, TypeError, "tol is a str: expected a number"),
        ({"max_steps": 2.5}, TypeError, "max_steps is a float: expected an integer"),
    ],
)
def test_tol_and_max_steps_are_checked(options, kind, says):
    with pytest.raises(kind, match=says):
        Simplex(3).project(torch.zeros(3), **options)


def test_a_missed_tolerance_is_stated():
    y = torch.randn(60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(SolveError, match=r"accepted was tol=1\.0e-09 relative to 1"):
        Simplex(60, 20.0).project(y**3, tol=1e-9, max_steps=1)


def test_batches_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"radius has batch shape \(4,\) and y \(3,\): expected shapes that broadcast"):
        L1Ball(2, torch.ones(4)).project(torch.zeros(3, 2))


def test_a_datum_does_not_enlarge_the_batch():
    s = BoxBudget(torch.zeros(3), 1.0, 1.0, torch.ones(4, 1))
    with pytest.raises(SolveError, match=r"budget has batch shape \(4, 1\), .* that of y, \(4,\): .*squeeze\(-1\)"):
        s.project(torch.zeros(4, 3))
    assert s.project(torch.zeros(3)).shape == s.project(torch.zeros(1, 3)).shape == (4, 1, 3)


def test_a_layer_checks_what_it_is_built_of():
    with pytest.raises(TypeError, match="convex_set is a int: expected a set"):
        ProjectionLayer(3)
    with pytest.raises(TypeError, match="project has no option stric: it has element, max_steps"):
        ProjectionLayer(Simplex(3), stric=False)
    with pytest.raises(TypeError, match="return_info: options of project go to the constructor"):
        ProjectionLayer(Simplex(3))(torch.zeros(3), return_info=True)
    with pytest.raises(TypeError, match=r"total is a plain tensor .* make it a torch.nn.Parameter"):
        ProjectionLayer(Simplex(3, torch.tensor(1.0, requires_grad=True)))
    with pytest.raises(TypeError, match=r"total is the result of a computation, which requires a gradient"):
        ProjectionLayer(Simplex(3, torch.tensor(1.0, requires_grad=True).exp()))


def test_arguments_of_project_are_checked():
    with pytest.raises(ValueError, match="element is 'middle': expected 'lowest' or 'highest'"):
        Simplex(3).project(torch.zeros(3), element="middle")
    with pytest.raises(ValueError, match="max_steps is -1"):
        Simplex(3).project(torch.zeros(3), max_steps=-1)


def test_an_empty_budget_carries_the_interval_that_can_be_met():
    s = BoxBudget(-1.0, torch.tensor([1.0, 2.0]), torch.tensor([1.0, -1.0]), torch.tensor(0.0))
    with pytest.raises(SolveError) as caught:
        s.with_data(budget=torch.tensor([0.0, 9.0])).project(torch.zeros(2, 2))
    assert caught.value.index == (1,) and caught.value.certificate == (-3.0, 2.0)


def test_a_layer_refuses_data_that_the_set_does_not_have():
    with pytest.raises(TypeError, match="Simplex has no data named radius: it has total"):
        ProjectionLayer(Simplex(3))(torch.zeros(3), radius=2.0)
