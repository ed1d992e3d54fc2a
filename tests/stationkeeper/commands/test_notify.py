import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stationkeeper.cli import app
from tests.stationkeeper.notify.receiver import receiving
from tests.waiting import LIMIT_S

pytestmark = pytest.mark.usefixtures("without_proxies")


def test_a_trial_says_what_each_receiver_answers(tmp_path: Path):
    with receiving() as good, receiving() as bad, receiving() as away:
        bad.answer, away.answer = (lambda _: 400), (lambda _: 503)
        file = tmp_path / "c.yaml"
        known = {"good": good, "bad": bad, "away": away}
        given = {name: {"url": one.url, "timeout": f"{LIMIT_S:g}s"} for name, one in known.items()}
        file.write_text(json.dumps({"notifiers": given}))
        run = CliRunner().invoke(app, ["notify", "good", "--config", str(file)], standalone_mode=False)
        assert (run.return_value, run.output.split(" ")[:2]) == (0, ["good:", "took"])
        assert good.events()[0]["id"].startswith("trial-good-")
        for name, code, word in (("bad", 1, "refuses it with 400"), ("away", 4, "answers with 503")):
            run = CliRunner().invoke(app, ["notify", name, "--json", "--config", str(file)], standalone_mode=False)
            assert run.return_value == code
            assert word in json.loads(run.output)[name]
        unknown = CliRunner().invoke(app, ["notify", "rom", "--config", str(file)])
        assert (unknown.exit_code, "no notifier is called 'rom'" in unknown.output) == (2, True)


def test_an_extension_that_stumbles_keeps_no_other_from_its_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "stumbling.py").write_text(
        "class Stumbling:\n    def __init__(self, settings): pass\n"
        "    def notify(self, notice): raise KeyError('queue')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with receiving() as good:
        file = tmp_path / "c.yaml"
        given = {"a": {"kind": "stumbling:Stumbling"}, "b": {"url": good.url, "timeout": f"{LIMIT_S:g}s"}}
        file.write_text(json.dumps({"notifiers": given}))
        run = CliRunner().invoke(app, ["notify", "--json", "--config", str(file)], standalone_mode=False)
    answers = json.loads(run.output)
    assert (run.return_value, answers["a"]) == (1, "KeyError: 'queue'")
    assert answers["b"].startswith("took ")
