"""Execute the notebooks of this folder in place, outputs kept; a cell that fails fails the run.

python notebooks/execute.py [NAME.ipynb ...]

As many notebooks at a time as OMP_NUM_THREADS says (two if it says nothing), a thread each, so that the numbers do not
depend on how many cores there are.
"""

from __future__ import annotations

import base64
import io
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent


def in_palette(png: str) -> str:
    """The picture in 256 colours: a third of the size, and no difference to see."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()


def execute(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(FOLDER)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when a cell ran is noise in every later diff
        if "outputs" in cell:  # warnings name the folders of this machine
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = in_palette(data["image/png"])
    nbformat.write(notebook, path)


def timed(path: Path) -> None:
    started = time.perf_counter()
    execute(path)
    print(f"{path.name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    # pictures are part of the outputs, also where the environment asks for another backend
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
    # the command line of this environment, for cells that call it
    os.environ["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    at_once = int(os.environ.get("OMP_NUM_THREADS") or 2)
    os.environ["OMP_NUM_THREADS"] = "1"
    paths = [Path(name) for name in sys.argv[1:]] or sorted(FOLDER.glob("*.ipynb"))
    with ThreadPoolExecutor(at_once) as pool:  # each waits for a kernel, a process of its own
        list(pool.map(timed, paths))
