"""The planted faults still fit the code they are planted in."""

from __future__ import annotations

from pathlib import Path

import pytest
from proof.mutants import FAULTS, ROOT, Fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{Path(f.file).stem}: {f.what}")
def test_a_fault_changes_one_place_and_leaves_valid_code(fault: Fault) -> None:
    planted = fault.planted()
    assert planted != (ROOT / fault.file).read_text(encoding="utf-8")
    compile(planted, fault.file, "exec")
    assert fault.tests
    assert all((ROOT / "tests" / f"test_{name}.py").is_file() for name in fault.tests)
