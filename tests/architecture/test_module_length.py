"""The file rules of `make lint` see what they should see."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(tree: Path) -> subprocess.CompletedProcess[str]:
    scripts = tree / "scripts"
    scripts.mkdir()
    script = scripts / "module_length.py"
    script.write_text((ROOT / "scripts" / "module_length.py").read_text(encoding="utf-8"), encoding="utf-8")
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    return subprocess.run([sys.executable, str(script)], check=False, capture_output=True, text=True)


def test_a_long_file_and_a_vague_name_are_refused(tmp_path: Path):
    (tmp_path / "long.py").write_text("x = 1\n" * 501, encoding="utf-8")
    (tmp_path / "utils.py").write_text("x = 1\n", encoding="utf-8")
    result = run(tmp_path)
    assert result.returncode == 1
    assert "long.py: 501 lines" in result.stderr
    assert "utils.py: the name says nothing" in result.stderr


def test_a_file_at_the_ceiling_passes(tmp_path: Path):
    (tmp_path / "window.py").write_text("x = 1\n" * 500, encoding="utf-8")
    result = run(tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
