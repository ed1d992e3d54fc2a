import re
from pathlib import Path

from scripts.notices import PAGE, page

ROOT = Path(__file__).resolve().parents[2]


def component(name, **licences):
    return {"name": name, "version": "1", "licenses": [licences] if licences else []}


def test_a_copyleft_licence_stands_apart_and_again_among_all():
    text = page({"components": [component("b", license={"id": "MIT"}), component("a", license={"id": "LGPL-2.1"})]})
    first, second = text.split("## All packages")
    assert "| a | 1 | LGPL-2.1 |" in first
    assert "| b |" not in first
    assert second.index("| a | 1 |") < second.index("| b | 1 | MIT |")


def test_an_exact_name_is_shown_before_a_classifier_and_silence_is_said():
    both = component("x", license={"id": "MIT"})
    both["licenses"].append({"license": {"name": "License :: OSI Approved :: MIT License"}})
    classified = component("y", license={"name": "License :: OSI Approved :: BSD License"})
    text = page({"components": [both, classified, component("z")]})
    assert "| x | 1 | MIT |" in text
    assert "| y | 1 | BSD License |" in text
    assert "| z | 1 | not declared |" in text


def test_the_notices_name_every_package_of_the_image_in_its_version():
    lock = (ROOT / "requirements" / "image.txt").read_text()
    # What another system alone installs is not in an image.
    pinned = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)((?: ;[^\\\n]*)?)", lock, re.MULTILINE)
    wanted = {
        (normal(name), version)
        for name, version, only in pinned
        if not re.search("== '(win32|darwin|Windows|emscripten)|python_full_version < '3.12'", only)
    }
    rows = re.findall(r"^\| (\S+) \| (\S+) \| ", (ROOT / PAGE).read_text(), re.MULTILINE)
    named = {(normal(name), version) for name, version in rows if version != "version"}
    assert wanted == named


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()
