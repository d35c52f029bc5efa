# Two commands on a bare machine: `make fit` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: fit test lint types notebooks docs check clean

fit: $(READY)  ## fit DGLFRM to Zachary's karate club; open runs/karate/report.html
	$(BIN)/graphlore fit karate --restarts 3 --out runs/karate

test: $(READY)  ## the whole test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# mypy follows the package where it is installed, not the mapping of the checkout
types: $(READY)
	rm -rf build .venv/typed
	$(BIN)/pip install -q --no-deps --no-build-isolation --target .venv/typed .
	rm -rf build
	cd .venv/typed && ../bin/mypy --config-file ../../pyproject.toml -p graphlore

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
