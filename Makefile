# make review: the review page on the bundled sample site      make test: the tests
# Everything is set up on first use in .venv; nothing is asked for and no weights are downloaded.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SITE ?= site
HOSPITALS := north river harbour
PORT ?= 7860
PACKAGES := clinical imaging fusion federated ui

.PHONY: review test slow lint check doctest cohort sites sample-model bench clean
.DEFAULT_GOAL := review

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,sample]"
	@touch $@

$(SITE)/site.toml: | $(VENV)/.installed
	$(BIN)/consilium import $(SITE) --pairs sample_data/site_cases/cases.csv --model sample_data/model

review: $(VENV)/.installed $(SITE)/site.toml
	$(BIN)/consilium review $(SITE) --port $(PORT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/.dev  # tests that take minutes each, on a machine with nothing else to do
	$(BIN)/python -m pytest -m slow

doctest: $(VENV)/.dev
	$(BIN)/python -m pytest -q -p no:cacheprovider --doctest-modules $(PACKAGES)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint doctest test

# The synthetic hospitals: one cohort to train on, another (seed 1) to test on.
runs/cohort runs/test_cohort: | $(VENV)/.dev
	$(BIN)/python -m sample_data.cohort --out $@ --seed $(if $(findstring test,$@),1,0)

cohort: runs/cohort runs/test_cohort

sites: cohort  # resumes where it was interrupted
	for h in $(HOSPITALS); do \
	  $(BIN)/consilium import runs/sites/$$h --pairs runs/cohort/$$h/cases.csv && \
	  $(BIN)/consilium import runs/test_sites/$$h --pairs runs/test_cohort/$$h/cases.csv || exit 1; \
	done

sample-model: sites  # what sample_data/model was made by
	$(BIN)/consilium train $(HOSPITALS:%=runs/sites/%) --out sample_data/model \
	  --trained-on "synthetic cases of three simulated hospitals (sample_data, seed 0)"

bench: sites
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) site runs .mypy_cache .pytest_cache .ruff_cache
