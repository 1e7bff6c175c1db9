# make demo               interpolate a small clip with the embedded default, write out/demo.mp4 and out/demo.png
# make demo VIDEO=a.mp4   the same with a clip of yours
# make test               lint and all tests
# make audit              known holes in what the package asks for (needs the network)
# make host               a ComfyUI with this pack on http://127.0.0.1:8188, in .cache/comfyui; stop it with Ctrl-C
# make host HOST="--version 0.18.2 --port 9000 --workflow NAME"
# All create their environment in .venv on first use.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
VIDEO  ?=
DEMO   ?=
HOST   ?=

.PHONY: demo test lint audit host clean

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch setuptools wheel
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[dev]"
	touch $@

demo: $(VENV)/.ready
	$(BIN)/python demo/run.py $(if $(VIDEO),"$(VIDEO)") $(DEMO)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test: lint
	$(BIN)/python -m pytest

audit: $(VENV)/.ready
	$(BIN)/python .ci/audit.py

host: $(VENV)/.ready
	$(BIN)/python -m devhost $(HOST)

clean:
	rm -rf out build dist *.egg-info .pytest_cache .ruff_cache
