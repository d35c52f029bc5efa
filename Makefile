# Two commands on a bare machine: `make fit` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: fit test lint types notebooks check clean

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

check: lint types test notebooks

clean:
	rm -rf .venv runs build .mypy_cache .ruff_cache .pytest_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt "setuptools>=77" wheel
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)
