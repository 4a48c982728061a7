"""How fast lablib is beside its peers: run by `make bench`, shown on the page "Benchmarks".

An area of the benchmark is one module of this folder; its last lines are `AREA = Area(...)`. `area.py` says what an
area supplies, `measure.py` has what all share, `page.py` composes the page.
"""
