"""The example notebook: it runs as a script, from any folder, and is committed without outputs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

NOTEBOOK = Path(__file__).parents[2] / "docs" / "examples" / "paper-figure.ipynb"


@pytest.fixture(scope="module")
def cells():
    plain = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (plain["nbformat"], plain["nbformat_minor"]) == (4, 5)
    return plain["cells"]


def test_no_output_is_committed(cells):
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in cells}) == len(cells)


def test_its_cells_draw_the_figure(cells, tmp_path):
    script = "\n".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script + "import sys\nassert 'torch' not in sys.modules\n"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert r"\toprule" in done.stdout
    assert b"/FontFile2" in (tmp_path / "paper-figure.pdf").read_bytes()
    with Image.open(tmp_path / "paper-figure.png") as picture:
        assert picture.width == pytest.approx(300 * 3.25, abs=2)
    assert (tmp_path / "paper-tradeoff.png").is_file()
