# Two commands on a bare machine: `make fit` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: fit test proof arviz-ends lint types audit notebooks docs check clean

fit: $(READY)  ## fit DGLFRM to Zachary's karate club; open runs/karate/report.html
	$(BIN)/graphlore fit karate --restarts 3 --out runs/karate

test: $(READY)  ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

proof: $(READY)  ## what the tests assert, at length (hours); reports in docs/proof, PROOF="kills fuzz" runs some
	PYTHONPATH=tests:tests/support:$$PYTHONPATH OMP_NUM_THREADS=1 $(BIN)/python -m proof $(PROOF)

# each in a folder of its own, laid over what is installed; ArviZ 1 is there for Python 3.12 and newer
ARVIZ_TESTS := tests/test_posterior.py tests/test_posterior_options.py
WITH_ARVIZ = PYTHONPATH=$(1):$$PYTHONPATH OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -p no:cacheprovider $(ARVIZ_TESTS)
ADD_ARVIZ = $(BIN)/pip install -q --disable-pip-version-check --no-deps --upgrade --target

arviz-ends: $(READY)  ## the posterior under the oldest and the newest ArviZ that pyproject.toml allows
	$(ADD_ARVIZ) .venv/arviz-oldest "arviz==0.22.0"
	$(call WITH_ARVIZ,.venv/arviz-oldest)
	@if $(BIN)/python -c "import sys; sys.exit(sys.version_info < (3, 12))"; then \
		$(ADD_ARVIZ) .venv/arviz-newest "arviz>=1,<2" arviz-base arviz-stats arviz-plots xarray-einstats lazy_loader && \
		$(call WITH_ARVIZ,.venv/arviz-newest); \
	else echo "ArviZ 1 skipped: it needs Python 3.12, this is $$($(BIN)/python -V)"; fi

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy follows the package where it is installed, not the mapping of the checkout
types: $(READY)
	rm -rf build .venv/typed
	$(BIN)/pip install -q --no-deps --no-build-isolation --target .venv/typed .
	rm -rf build
	cd .venv/typed && ../bin/mypy --config-file ../../pyproject.toml -p graphlore

audit:  ## known vulnerabilities of the versions in constraints.txt; says so where it cannot be done
	PYTHON=$(PYTHON) .ci/audit

notebooks: $(READY)  ## execute the notebooks in place
	$(BIN)/python notebooks/execute.py

docs: $(READY)  ## the pages, in docs/_build/html; a warning is an error
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

check: lint types docs notebooks test

clean:
	rm -rf .venv runs build docs/_build .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt "setuptools>=77" wheel
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)
