# make book   build the site into _build/html
# make check  lint, check the types, run the quick tests: about a minute
# make test   prove the library against its references
# make pdf    print the book as one file, _build/book.pdf, with Chromium or Chrome
# make lab    build it, and open its pages as notebooks in JupyterLab
# Each sets itself up in .venv first. Another Python: make book PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
pip = $(1)/python -m pip install --disable-pip-version-check
FULLSIZE := _build/fullsize
POCKET := src/hardway/models/pocket
QUICK := not slow and not browser and not network
# At most four workers, however many the cores: some tests load 548 MB.
PARALLEL := -n logical --maxprocesses 4 --dist loadgroup
# Absolute, because pages run in directories of their own.
HOME_ASKED := $(or $(HARDWAY_HOME),models)
override HARDWAY_HOME := $(if $(filter /%,$(HOME_ASKED)),$(HOME_ASKED),$(CURDIR)/$(HOME_ASKED))
export HARDWAY_HOME
SPACE := $(subst ,, )
SMOLLM2 := $(subst $(SPACE),\ ,$(HARDWAY_HOME)/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf)

.PHONY: book pdf check test lowest bench fuzz soak lab lint pocket reproducible golden linkcheck notebooks-check book-fullsize clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

# Sphinx warns about a page when it reads or writes it, and does neither again until the
# page changes: after a build that failed, or was interrupted, the next one has to begin
# with no pages, or it would pass. The audit then reads what came out.
define build
	@$(BIN)/python -m tools.preflight
	@test -e $(1)/_build/.passed || rm -rf $(1)/_build/.doctrees
	@rm -f $(1)/_build/.passed
	$(BIN)/jupyter-book build . -n -W --keep-going --path-output $(1)
	@touch $(1)/_build/.passed
	$(BIN)/python -m tools.audit $(1)/_build/html
	@echo "Open $(1)/_build/html/index.html in a browser."
endef

book: .venv/.installed-book $(SMOLLM2)
	$(call build,.)
	@echo "Chat with SmolLM2: HARDWAY_HOME=$(QUOTE)$(HARDWAY_HOME)$(QUOTE) $(BIN)/hardway chat"

# Only a path with a space needs them.
QUOTE := $(if $(findstring $(SPACE),$(HARDWAY_HOME)),')

# The model of Part II, once. It has no prerequisites, so it is never fetched again; who
# needs it lists an environment first, which brings the command.
$(SMOLLM2):
	@$(BIN)/hardway download smollm2

check: lint $(SMOLLM2)
	$(BIN)/pytest $(PARALLEL) -m "$(QUICK)"

# The quick tests alone have to cover nine tenths of the library, all together its whole.
# What needs another machine is left to the weekly workflow.
test: .venv/.installed-test $(SMOLLM2)
	$(BIN)/pytest $(PARALLEL) -m "$(QUICK)" --cov --cov-fail-under=90
	$(BIN)/pytest $(PARALLEL) -m "(slow or browser) and not network" --cov --cov-append

# The quick tests on the lowest versions that pyproject.toml allows. They replace those of
# constraints.txt without a resolver, because transformers and others would ask for more.
LOWEST := _build/lowest
lowest: .venv/.installed-test $(SMOLLM2)
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(call pip,$(LOWEST)/bin) -c constraints.txt pip
	$(call pip,$(LOWEST)/bin) -c constraints.txt -e ".[plots,serve]" --group test
	$(BIN)/python tests/support/lowest.py > $(LOWEST)/lowest.txt
	$(call pip,$(LOWEST)/bin) --no-deps -r $(LOWEST)/lowest.txt
	$(LOWEST)/bin/pytest $(PARALLEL) -m "$(QUICK)" tests/hardway

# Speed beside other programs, a quarter of an hour of it: into book/record.json, which the
# book shows, and benchmarks/record.md. Nothing else should run meanwhile.
bench: .venv/.installed-bench
	$(BIN)/python benchmarks _build/bench

# Broken weights files, many more than `make test` reads: all refused, or read rightly.
fuzz: .venv/.installed-test
	$(BIN)/python tests/support/fuzz_safetensors.py --files 200000
	$(BIN)/python tests/support/fuzz_gguf.py --files 100000

pdf: book .venv/.installed-test
	$(BIN)/python -m tools.pdf _build/html _build/book.pdf

# How the bundled model was trained (src/hardway/models/pocket/recipe.toml), from the
# corpus that its card describes, which isn't here. It takes most of a day on two cores;
# the same command resumes it. The bundled weights stay as they are.
POCKET_OUT ?= _build/pocket
pocket: .venv/.installed-book
	@test -f "$(CORPUS)" || { echo "Name a corpus: make pocket CORPUS=FILE"; exit 1; }
	$(BIN)/hardway train "$(CORPUS)" --config $(POCKET)/recipe.toml --out $(POCKET_OUT)
	$(BIN)/hardway export $(POCKET_OUT)/float16 --model $(POCKET_OUT) --dtype F16

# A minute of 200 clients at one server, after a minute for its memory to settle.
soak: .venv/.installed-test
	$(BIN)/python tests/support/api_server.py --clients 200 --seconds 60

lab: book .venv/.installed-notebook
	$(BIN)/python -m tools.lab _build/html/notebooks _build/notebooks

# Every notebook that the pages offer, where only the package and JupyterLab are installed.
notebooks-check: book
	$(BIN)/python -m tools.run_notebooks _build/html/notebooks

lint: .venv/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/zizmor --quiet --offline --strict-collection --pedantic .github

# The tests on the real GPT-2, of which none may be skipped for want of its weights.
golden: .venv/.installed-test $(SMOLLM2)
	$(BIN)/pytest --no-skip tests/hardway/test_golden.py

# Whether the links that leave the book still lead somewhere; one that does not fails it.
# The book comes first because Sphinx reads a page once, and here without -W.
linkcheck: book
	$(BIN)/jupyter-book build . --builder custom --custom-builder linkcheck

# The whole book again, on a model of GPT-2 124M's full size that computes what pocket does.
book-fullsize: .venv/.installed-book $(SMOLLM2) $(FULLSIZE)/model.safetensors
	$(call build,_build/on-fullsize)

book-fullsize: export HARDWAY_MODEL := $(CURDIR)/$(FULLSIZE)

$(FULLSIZE)/model.safetensors: tests/support/fullsize.py $(POCKET)/model.safetensors \
		| .venv/.installed-book
	$(BIN)/python tests/support/fullsize.py $(FULLSIZE)

# Two clean builds: all that the pages do not mark as measured has to be the same.
REPEATED := _build/reproducible
reproducible: .venv/.installed-book $(SMOLLM2)
	rm -rf $(REPEATED)
	$(call build,$(REPEATED)/one)
	$(call build,$(REPEATED)/two)
	$(BIN)/python -m tools.reproducible $(REPEATED)/one/_build/html \
		$(REPEATED)/two/_build/html

reproducible: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)

clean:
	rm -rf _build

# The environment, once for each dependency group and again when their list changes.
.venv/.installed-%: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv .venv
	$(call pip,$(BIN)) -c constraints.txt pip # one that knows dependency groups
	$(call pip,$(BIN)) -c constraints.txt -e ".[plots,serve]" --group $*
	@touch $@
