# Two commands set everything up: `make demo` and `make test`. Both build .venv on first use.
#   PYTHON      interpreter that makes .venv                (python3)
#   TORCH       what to install for torch, first and alone  (torch)
#   VENV_FLAGS  --system-site-packages reuses a torch that is already installed
PYTHON ?= python3
TORCH ?= torch
VENV_FLAGS ?=

VENV := .venv
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check
GROUP := $(RUN) tools/install_group.py

.PHONY: demo test test-comfyui test-browser templates brand archive coverage lint format bench house clean

demo: $(VENV)/.installed
	$(RUN) -m janus_core demo --out out/demo

test: $(VENV)/.test
	$(RUN) -m pytest tests/unit tests/parity tests/cli

test-comfyui: $(VENV)/.test
	$(RUN) -m pytest tests/comfyui

# Against ComfyUI's own frontend and a newer one, where that can be fetched; the tests say so where it cannot.
FRONTEND := comfyui-frontend-package==1.58.1
test-browser: $(VENV)/.test
	$(GROUP) browser
	test -d $(VENV)/frontend || $(PIP) --no-deps --target $(VENV)/frontend $(FRONTEND) || true
	$(RUN) -m pytest -rs tests/browser

# Writes the templates and their thumbnails anew with a running ComfyUI: make templates URL=http://127.0.0.1:8188
URL ?= http://127.0.0.1:8188
templates: $(VENV)/.test
	$(RUN) -m tools.templates $(URL)
	$(RUN) -m tools.templates.thumbnails $(URL)
	$(RUN) -m tools.gallery

# Draws icon and banner anew, from tools/brand.py.
CHROMIUM ?= chromium
brand: $(VENV)/.installed
	$(RUN) -m tools.brand $(CHROMIUM)

# What the registry gets, in out/node.zip, without a registry's tools.
archive: $(VENV)/.test
	mkdir -p out
	$(RUN) -m tools.archive out/node.zip

# Lines and branches that `make test` reaches, by file; nothing fails below a figure.
coverage: $(VENV)/.test
	$(GROUP) coverage
	mkdir -p out
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest tests/unit tests/parity tests/cli
	$(RUN) -m coverage combine
	$(RUN) -m coverage report

lint: $(VENV)/.lint
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m tools.node_types
	$(RUN) -m codespell_lib .

format: $(VENV)/.lint
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(VENV)/.test
	$(RUN) -m benchmarks --size tiny

# Figures about the source itself: lengths, complexity, comments, duplication, rooms and arrows.
house:
	$(PYTHON) -m tools.house

# torch comes first and alone, so that nothing installed later replaces it.
$(VENV)/.installed: pyproject.toml
	test -x $(RUN) || $(PYTHON) -m venv $(VENV_FLAGS) $(VENV)
	$(RUN) -c "import torch" 2>/dev/null || $(PIP) $(TORCH)
	$(PIP) --editable .
	touch $@

$(VENV)/.test: $(VENV)/.installed
	$(GROUP) test
	touch $@

$(VENV)/.lint: $(VENV)/.installed
	$(GROUP) lint
	touch $@

clean:
	rm -rf $(VENV) out build dist
