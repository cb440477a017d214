# make run: the balancer with three simulated BigBlueButton servers; all it needs is Python 3.11 or newer.
# Everything is installed into VENV, from a package index, by pip.

PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3.13 python3))
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test lint types clean

# exec, so that Ctrl-C and signals go to the balancer itself.
run: $(VENV)/.installed
	@exec $(BIN)/twistd --nodaemon --pidfile= scalelite --demo

test: $(VENV)/.tox
	$(BIN)/tox run

lint: $(VENV)/.tox
	$(BIN)/tox run -e lint

types: $(VENV)/.tox
	$(BIN)/tox run -e types

clean:
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
	find scalelite tests twisted -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: apt install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$(PYTHON) is too old: Python 3.11 or newer is needed (make PYTHON=/path/to/python3.11)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "Debian keeps Python's venv module in a package of its own. Install it, then repeat:" >&2; \
	      echo "    apt install $$($(PYTHON) -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; \
	      exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.tox: tox.ini | $(BIN)/pip
	$(BIN)/pip install --quiet --disable-pip-version-check "tox>=4.22"
	@touch $@
