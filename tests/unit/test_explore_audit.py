"""The audit covers the brief: every claim, and every number in it."""

from pathlib import Path

import pytest
from tamale_model.explore import audit, world
from tamale_model.explore.verdict import AUDITS, Verdict

#: The brief's section on the essay's claims, as it was given.
BRIEF = (Path(__file__).parent / "brief_claims.md").read_text()


@pytest.fixture(scope="module")
def answers():
    return {answer.claim.name: answer for answer in audit.audit(world.load())}


def rows():
    """(claim, figure) of the brief's table."""
    lines = [line for line in BRIEF.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")[:2]) for line in lines]


def test_every_row_of_the_brief_is_a_claim():
    known = {(c.claim, c.figure) for c in audit.claims().values() if c.where == "brief"}
    assert len(rows()) == 12
    assert not set(rows()) - known


def test_every_number_of_the_brief_is_in_a_claim():
    claims = " ".join(f"{c.claim} {c.figure}" for c in audit.claims().values())
    after = BRIEF[BRIEF.index("What an audit already shows") :]
    assert not set(audit.numbers(after)) - set(audit.numbers(claims))


def test_every_number_of_a_claim_is_checked(answers):
    for answer in answers.values():
        text = f"{answer.claim.claim} {answer.claim.figure}"
        covered = {number for check in answer.checks for number in check.covers}
        assert not set(audit.numbers(text)) - covered, answer.claim.name
        assert not covered - set(audit.numbers(text)), answer.claim.name


def test_every_claim_has_its_function():
    assert set(AUDITS) == set(audit.claims())


def test_answers_say_why(answers):
    for answer in answers.values():
        assert answer.checks
        for check in answer.checks:
            assert any(c.isdigit() for c in check.computed), answer.claim.name
            if check.verdict is not Verdict.HOLDS:
                assert len(check.because) > 10, answer.claim.name


def test_uses_name_what_there_is(answers):
    known = world.load()
    names = {*known.constants, *known.workloads, *known.platforms, "synthesis.json"}
    for answer in answers.values():
        for check in answer.checks:
            assert not set(check.uses) - names


def test_verdicts(answers):
    """What a reader of the sources finds too; another verdict needs another figure."""
    verdicts = {name: answer.verdict for name, answer in answers.items()}
    assert verdicts["array-width"] == verdicts["deepseek-size"] == Verdict.HOLDS
    assert verdicts["appliance"] == verdicts["memory-wall"] == Verdict.NOT
    assert verdicts["transistors"] == verdicts["energy-ratios"] == Verdict.NOT
    assert verdicts["chip-28nm"] == verdicts["latent-attention"] == Verdict.IF


def test_verdicts_follow_the_figures(tmp_path):
    path = tmp_path / "cheap.toml"
    path.write_text("[constants.memory]\nprice = 0.5\n[constants.energy]\nfp16_multiply = 3.7\n")
    cheap = world.load([path])
    checks = {c.covers: c.verdict for c in audit.answer("appliance", cheap).checks}
    assert checks["64", "30", "60"] == Verdict.HOLDS
    checks = {c.covers: c.verdict for c in audit.answer("memory-wall", cheap).checks}
    assert checks["3.7",] == Verdict.HOLDS


def test_numbers():
    text = "DeepSeek-V3 on 28 nm: 8,750 of FP16, 0.03 pJ, 1, 2 (arXiv:2406.02528), $60-115"
    assert audit.numbers(text) == ["8,750", "0.03", "1", "2", "60", "115"]
