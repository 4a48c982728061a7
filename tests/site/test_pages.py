"""Every page of the built book in Chromium: offline, quiet, drawn, in its width, and readable to everyone."""

import built
import pytest

pytestmark = pytest.mark.parametrize("page", built.page_parameters())


def test_page_asks_no_other_host(visit, page):
    assert visit(page).outside == []


def test_every_request_is_answered(visit, page):
    assert visit(page).failed == []


def test_console_is_quiet(visit, page):
    assert visit(page).console == []


def test_every_formula_is_drawn(visit, page):
    formulas = visit(page).formulas
    assert formulas["undrawn"] == [], "formulas that MathJax left as text"
    assert formulas["drawn"] == formulas["nodes"]
    assert formulas["errors"] == [], "formulas that MathJax could not read"
    assert formulas["raw"] == [], "TeX or roles that stand raw in the text"


def test_every_formula_can_be_read_aloud(visit, page):
    assert visit(page).formulas["unspoken"] == 0


def test_nothing_sticks_out(visit, page):
    assert {where: what for where, what in visit(page).sticking_out.items() if what} == {}


def test_each_id_names_one_thing(visit, page):
    ids = visit(page).ids
    assert sorted({name for name in ids if ids.count(name) > 1}) == []


def test_no_violation_of_wcag_a_or_aa(visit, page):
    assert {where: what for where, what in visit(page).violations.items() if what} == {}
