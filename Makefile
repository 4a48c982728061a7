# Two commands: `make book` to read, `make test` to check. Both make the environment first, if it is not there.
# Without make: README.md has the plain commands.

# The first Python that is new enough; another one: make env PYTHON=/path/to/python
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PY = .venv/bin/python
SERVE ?= 1
DEVICE ?= cpu
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help book test lab labs status bench address env python-env clean found-python

help:   ## show this list
	@echo 'make TARGET, where TARGET is one of'
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

book: python-env   ## build the book and serve it on this machine (SERVE=0: only build)
	@$(PY) make/book.py $(if $(filter 0,$(SERVE)),--no-serve)

test: env   ## run every check (STAGES="lint unit": only these)
	@$(PY) tests/run.py $(STAGES)

lab: python-env   ## open JupyterLab on the learners' labs
	@$(PY) -m jupyter lab --notebook-dir=labs "--ContentsManager.hide_globs=['masters', '__pycache__']" $(if $(filter 0,$(shell id -u)),--allow-root)

labs: python-env   ## make the learners' labs again from labs/masters
	@$(PY) -m lablib.teaching.editions

status: python-env   ## run the notebooks for their claims and make the status page again
	@$(PY) tests/run.py --status

bench: found-python   ## measure the layers against their peers (AREA=simple_sets: one; DEVICE=cuda: on a card)
	@$(PYTHON) make/environment.py bench
	@.bench-venv/bin/python -m tests.benchmarks $(AREA) --device $(DEVICE)

address: python-env   ## set the repository's address everywhere: URL=https://github.com/OWNER/REPO
	@$(PY) make/address.py "$(URL)"

env: found-python   ## make the environment: the only step that uses the network
	@$(PYTHON) make/environment.py

python-env: found-python
	@$(PYTHON) make/environment.py python

found-python:
	@test -n "$(PYTHON)" || { echo 'Stopped: no Python 3.11 or later was found.'; \
	  echo '  On Debian 12 or Ubuntu 24.04: sudo apt-get install python3 python3-venv'; \
	  echo '  Or name one: make env PYTHON=/path/to/python'; exit 1; }

clean:   ## remove what was built; the environments stay
	rm -rf _build build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.*venv/*' -prune -exec rm -rf {} +
