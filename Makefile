# make review: the review page on the bundled sample site      make test: the tests
# Everything is set up on first use in .venv; nothing is asked for and no weights are downloaded.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SITE ?= site
COHORT ?= runs/cohort
PORT ?= 7860
PACKAGES := clinical imaging fusion federated ui

.PHONY: review test lint check doctest cohort sample-model bench clean
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
	$(BIN)/python -m pytest

doctest: $(VENV)/.dev
	$(BIN)/python -m pytest -q -p no:cacheprovider --doctest-modules $(PACKAGES)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint doctest test

cohort: $(VENV)/.dev  # the synthetic hospitals, about three minutes
	$(BIN)/python -m sample_data.cohort --out $(COHORT)

sample-model: $(VENV)/.dev  # cohort -> sites -> sample_data/model
	$(BIN)/python -m sample_data.train_model --cohort $(COHORT) --out sample_data/model

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks --cohort $(COHORT)

clean:
	rm -rf $(VENV) site runs .mypy_cache .pytest_cache .ruff_cache
