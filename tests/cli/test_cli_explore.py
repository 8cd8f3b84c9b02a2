"""`tamale explore` as a person calls it."""

import json
import re

import pytest
from tamale import config as configuration
from tamale_sim.cli import main


def call(capsys, *arguments):
    status = main(["explore", *arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["essay"], ["workloads"], ["platforms"], ["metric"], ["boxes"], ["chips"],
        ["constants"], ["predict"],
        ["fields", "vectors=1", "--positions", "3"],
        ["size", "--points", "2", "--workers", "1", "--context", "64"],
    ],
)  # fmt: skip
def test_tables_and_objects(capsys, arguments):
    status, out, _ = call(capsys, *arguments)
    assert status == 0
    assert len(out.splitlines()) > 4
    status, out, err = call(capsys, *arguments, "--json")
    assert status == 0
    assert json.loads(out)
    assert not err


def test_size_writes_a_preset(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    status, out, _ = call(
        capsys, "size", "--points", "3", "--workers", "1", "--context", "64", "-o", str(path)
    )
    assert status == 0
    assert "the cycle model is within" in out
    config = configuration.load(path)
    assert config.name == "mine"
    assert config.max_context >= 64


def test_one_claim(capsys):
    status, out, _ = call(capsys, "essay", "--claim", "batch-one", "--json")
    (answer,) = json.loads(out)
    assert status == 0
    assert answer["claim"] == "What an audit already shows"
    assert any("2.8 GB" in check["computed"] for check in answer["checks"])


def test_report(capsys, tmp_path):
    status, out, _ = call(capsys, "report", "-o", str(tmp_path / "r"), "--points", "0", "--json")
    assert status == 0
    names = {path.name for path in (tmp_path / "r").iterdir()}
    assert {"explore.html", "roofline.png", "roofline.svg", "cost.svg", "energy.png"} <= names
    page = (tmp_path / "r" / "explore.html").read_text()
    # Nothing comes from outside, and a phone scales it.
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert 'name="viewport"' in page
    assert page.count("<img") == page.count("data:image/svg+xml;base64,") >= 6
    assert "does not hold" in page and "8.58 GiB" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["platforms", "--context", "0"], "--context must be 1 or more, not 0"),
        (["platforms", "--model", "nothing"], "unknown model 'nothing'"),
        (["essay", "--claim", "x"], "unknown claim 'x'; use one of ternary-addition"),
        (["size", "--platform", "x"], "unknown platform 'x'"),
        (["size", "--goal", "-1"], "--goal must be above 0"),
        (["size", "--model", "dense-14b"], "use a smaller model"),
        (["size", "--points", "0"], "--points must be 1 or more, not 0"),
        (["size", "--workers", "0"], "--workers must be 1 or more, not 0"),
        (["size", "-o", "x.json"], "a preset is a TOML file"),
        (["size", "-o", "nowhere/x.toml"], "the folder does not exist"),
        (["boxes", "--platform", "ulx3s-85f"], "ulx3s-85f is no chip of ours"),
        (["metric", "--goal", "0"], "--goal must be above 0"),
        (["predict", "--record"], "--record records what --measure measures"),
        (["predict", "--only", "zzz"], "no case has 'zzz' in its name"),
        (["area", "--liberty", "no.lib"], "no Liberty library at no.lib"),
        (["fields", "vectors=x"], "values of vectors must be of type int"),
        (["fields", "--positions", "9999"], "use 0 to 2047"),
    ],
)
def test_mistakes(capsys, arguments, message):
    status, out, err = call(capsys, *arguments)
    assert status == 1
    assert message in err
    assert not out


def test_assumptions_of_a_user(capsys, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[platforms.appliance-28nm]\nbandwidth = 100\n")
    fast = json.loads(call(capsys, "--assume", str(path), "platforms", "--json")[1])
    slow = json.loads(call(capsys, "platforms", "--json")[1])
    rates = [r["dense-14b"]["appliance-28nm"]["tokens_per_second"]["value"] for r in (fast, slow)]
    assert rates[0] == pytest.approx(rates[1] * 100 / 51.2)
    path.write_text("[platforms.appliance-28nm]\nbandwidth = -100\n")
    status, _, err = call(capsys, "--assume", str(path), "platforms")
    assert status == 1
    assert "appliance-28nm.bandwidth = -100 GB/s must be above zero" in err
