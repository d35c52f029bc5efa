"""Execute the notebooks of this folder in place, outputs kept; a cell that fails fails the run.

python notebooks/execute.py [NAME.ipynb ...]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when a cell ran is noise in every later diff
        if "outputs" in cell:  # warnings name the folders of this machine
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
    nbformat.write(notebook, path)


if __name__ == "__main__":
    # pictures are part of the outputs, also where the environment asks for another backend
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    for notebook_path in (
        map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(FOLDER.glob("*.ipynb"))
    ):
        started = time.perf_counter()
        execute(notebook_path)
        print(f"{notebook_path.name}: {time.perf_counter() - started:.0f} s")
