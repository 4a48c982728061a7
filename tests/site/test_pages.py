"""Every page of the built book in Chromium: offline, quiet, drawn, in its width, and readable to everyone."""

import built
import pytest
from built import listed

pytestmark = pytest.mark.parametrize("page", built.page_parameters())


def test_page_asks_no_other_host(visit, page):
    found = visit(page).outside
    assert not found, listed(found)


def test_every_request_is_answered(visit, page):
    found = visit(page).failed
    assert not found, listed(found)


def test_console_is_quiet(visit, page):
    found = visit(page).console
    assert not found, listed(found)


def test_every_formula_is_drawn(visit, page):
    formulas = visit(page).formulas
    assert not formulas["undrawn"], "MathJax left as text:" + listed(formulas["undrawn"])
    assert formulas["drawn"] == formulas["nodes"]
    assert not formulas["errors"], "MathJax could not read:" + listed(formulas["errors"])
    assert not formulas["raw"], "TeX or roles stand raw in the text:" + listed(formulas["raw"])


def test_every_formula_can_be_read_aloud(visit, page):
    assert visit(page).formulas["unspoken"] == 0


def test_nothing_sticks_out(visit, page):
    found = {where: what for where, what in visit(page).sticking_out.items() if what}
    assert not found, listed(found)


def test_each_id_names_one_thing(visit, page):
    ids = visit(page).ids
    found = sorted({name for name in ids if ids.count(name) > 1})
    assert not found, "ids that stand twice:" + listed(found)


def test_no_violation_of_wcag_a_or_aa(visit, page):
    found = {where: what for where, what in visit(page).violations.items() if what}
    assert not found, listed(found)
