# `make demo` shows agentmesh at work, `make test` checks it. Both install what they need into .venv, once.

PYTHONS ?= python3 python3.13 python3.12 python3.11
PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check

.PHONY: help demo test venv constraints clean

help:
	@echo "make demo         run the flagship workflow on the embedded simulated provider; no key needed"
	@echo "make test         run every check: ruff, mypy, pytest"
	@echo "make venv         install agentmesh and what its tests need into .venv, and nothing else"
	@echo "make constraints  write constraints.txt anew, with the newest versions that fit together"
	@echo "make clean        remove .venv and what tools have left behind"

demo: .venv/installed
	@.venv/bin/agentmesh run hypotheses
	@echo "            (agentmesh is .venv/bin/agentmesh here; after  . .venv/bin/activate  it is agentmesh)" >&2

test: .venv/installed-test
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m pytest -n auto --maxprocesses 4

venv: .venv/installed-test

.venv/installed: $(PY) pyproject.toml constraints.txt
	@echo "Installing agentmesh into .venv ..."
	@$(PIP) -e . -c constraints.txt
	@touch $@

.venv/installed-test: $(PY) pyproject.toml constraints.txt
	@echo "Installing agentmesh and what its tests need into .venv ..."
	@$(PIP) -e '.[test,lint]' -c constraints.txt
	@touch .venv/installed $@

# A .venv that does not work (its Python is gone or too old, or it has no pip) is made anew.
ifneq ($(shell $(PY) -c 'import sys, pip; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
.PHONY: $(PY)
endif

# A name alone says little: it may be too old, a shim that only complains, or lack the parts that venv needs.
$(PY):
	@for name in $(PYTHONS); do \
		$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		found=$$name; \
		if $$name -c 'import venv, ensurepip' 2>/dev/null; then exec $$name -m venv --clear .venv; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo "agentmesh needs Python 3.11 or newer; none of these is: $(PYTHONS)." >&2; \
		echo "If it is elsewhere: make PYTHONS=/path/to/python3 $(MAKECMDGOALS)" >&2; \
	else \
		version=$$($$found -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
		echo "$$found (Python $$version) cannot make virtual environments: its venv or ensurepip module is missing." >&2; \
		echo "On Debian and Ubuntu: sudo apt install python3-venv (or python$$version-venv); then type the command again." >&2; \
	fi; \
	exit 1

constraints:
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(MAKE) --no-print-directory $(PY) && \
	$(PY) -m venv "$$folder" && "$$folder/bin/python" -m pip install --quiet '.[test,lint]' && \
	{ sed '/^[^#]/,$$d' constraints.txt; "$$folder/bin/python" -m pip freeze --exclude agentmesh-async; } > "$$folder/new" && \
	cp "$$folder/new" constraints.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
