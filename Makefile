# make book   build the site into _build/html
# make test   prove the library against its references
# make lab    open the chapters as notebooks in JupyterLab
# Each sets itself up in .venv first. Another Python: make book PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
FULLSIZE := _build/fullsize
export HARDWAY_HOME ?= $(CURDIR)/models

.PHONY: book test lab lint book-fullsize clean

book: .venv/.installed-book
	$(BIN)/jupyter-book build . -n -W --keep-going

test: .venv/.installed-test
	$(BIN)/pytest --cov --cov-fail-under=95

lab: .venv/.installed-notebook
	$(BIN)/python book/_ext/notebooks.py _build/notebooks
	$(BIN)/jupyter lab _build/notebooks

lint: .venv/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# The whole book again, on a model of GPT-2 124M's full size that computes what pocket does.
book-fullsize: .venv/.installed-book
	test -f $(FULLSIZE)/model.safetensors || $(BIN)/python tests/fullsize.py $(FULLSIZE)
	HARDWAY_MODEL=$(CURDIR)/$(FULLSIZE) $(BIN)/jupyter-book build . -n -W --keep-going \
		--path-output _build/on-fullsize

clean:
	rm -rf _build

# The environment, once for each set of extras and again when their list changes.
.venv/.installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$*]"
	@touch $@
