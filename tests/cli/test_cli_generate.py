"""`tamale generate`, and what the command line says where it cannot go on."""

import os
import platform
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

import pytest
from tamale import config as configuration
from tamale import isa
from tamale_sim import verilator
from tamale_sim.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")

ROOT = Path(__file__).parents[2]
FORMS = ("accelerator", "soc")
#: The CPU's Verilog is another project's file.
FOREIGN = "VexRiscv.v"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Folders of two runs of each form, from different places and with different hash seeds."""
    folders = {}
    for form in FORMS:
        for number in (1, 2):
            place = tmp_path_factory.mktemp(f"place{number}")
            command = [sys.executable, "-m", "tamale_sim", "generate", form, "--config", "tiny"]
            result = subprocess.run(
                [*command, "-o", "rtl"],
                cwd=place,
                env=os.environ | {"PYTHONHASHSEED": str(number)},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 0, result.stderr
            assert not result.stderr
            folders[form, number] = place / "rtl"
            names = sorted(file.name for file in folders[form, number].iterdir())
            assert [line.split()[0] for line in result.stdout.splitlines()] == [
                f"rtl/{name}" for name in names
            ]
    return folders


@pytest.mark.parametrize("form", FORMS)
def test_same_files(outputs, form):
    first, second = (
        {file.name: file.read_bytes() for file in outputs[form, number].iterdir()}
        for number in (1, 2)
    )
    assert first.keys() == second.keys()
    for name, content in first.items():
        assert content == second[name], name


@pytest.mark.parametrize("form", FORMS)
def test_no_traces_of_the_machine(outputs, form):
    places = [str(ROOT), sys.prefix, str(Path.home()), str(outputs[form, 1].parents[1])]
    places += [name for name in (platform.node(),) if len(name) > 4]
    for file in outputs[form, 1].iterdir():
        if file.name == FOREIGN:
            continue
        text = file.read_bytes().decode(errors="replace")
        for place in places:
            assert place not in text, f"{place} in {file.name}"
        assert not re.search(r"\b20\d\d-[01]\d-[0-3]\d\b|\b\d\d:\d\d:\d\d\b", text), file.name


@pytest.mark.parametrize("form", FORMS)
def test_verilog(outputs, form):
    folder = outputs[form, 1]
    name = f"tamale_{form}"
    text = (folder / f"{name}.v").read_text()
    assert text.startswith("// Ternary ") and f"module {name}(" in text
    lines = configuration.load("tiny").to_toml().splitlines()
    assert "".join(f"// {line}\n" for line in lines) in text
    sources = [file.name for file in folder.glob("*.v")]
    package = verilator.package()
    tool = "verilator" if package is None else str(package / "bin" / "verilator")
    environment = os.environ | ({"VERILATOR_ROOT": str(package)} if package else {})
    result = subprocess.run(
        [tool, "--lint-only", "-Wno-fatal", "-Wno-WIDTH", "--top-module", name, *sources],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "%Error" not in result.stderr


def test_ports_of_the_accelerator(outputs):
    text = (outputs["accelerator", 1] / "tamale_accelerator.v").read_text()
    header = re.search(r"^module tamale_accelerator\((.*?)\);", text, re.MULTILINE | re.DOTALL)
    ports = {port.strip() for port in header.group(1).split(",")}
    assert {"clk", "rst", "irq"} <= ports
    for channel in ("aw", "w", "b", "ar", "r"):
        assert {f"m_axi_{channel}valid", f"m_axi_{channel}ready"} <= ports
    assert {"s_wb_adr", "s_wb_cyc", "s_wb_stb", "s_wb_ack", "s_wb_dat_r", "s_wb_dat_w"} <= ports


def _example():
    """The program of docs/user/generate.md."""
    page = (ROOT / "docs" / "user" / "generate.md").read_text()
    return re.search(r"```c\n(.*?)```", page, re.DOTALL).group(1)


def test_driver_and_example_compile(outputs, tmp_path):
    folder = outputs["accelerator", 1]
    (tmp_path / "example.c").write_text(_example())
    result = subprocess.run(
        [
            sys.executable, "-m", "ziglang", "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-c",
            f"-I{folder}", "-DTAMALE_ACCELERATOR_BASE=0x60000000u", str(tmp_path / "example.c"),
            str(folder / "driver.c"), str(folder / "sample.c"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("form", FORMS)
def test_documents(outputs, form):
    folder = outputs[form, 1]
    device = xml.parse(folder / "tamale_soc.svd").getroot()
    names = [name.text for name in device.findall("peripherals/peripheral/name")]
    assert "ACCELERATOR" in names
    header = (folder / "tamale_soc.h").read_text()
    registers = device.findall("peripherals/peripheral/registers/register/name")
    assert len(registers) > 50
    assert "tamale_accelerator_submit_write" in header
    page = (folder / "tamale_soc.md").read_text()
    assert "## accelerator" in page
    commands = (folder / "tamale_commands.md").read_text()
    assert all(f"\n## {op.name}\n" in commands for op in isa.Op)
    assert "`sweep_bytes`" in (folder / "tamale_image.md").read_text()


@pytest.mark.parametrize("form", FORMS)
def test_configuration_comes_along(outputs, form):
    assert configuration.load(outputs[form, 1] / "tiny.toml") == configuration.load("tiny")


def test_list(capsys):
    assert main(["generate", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == configuration.preset_names()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("widht = 4", "unknown key 'widht'; known: name,"),
        ("vectors = 'four'", "vectors must be int, not 'four'"),
        ("vectors = 99", "vectors = 99: use 1 to 16 vectors"),
        ("vectors", "is not valid TOML"),
        ("clock_hz = 200000000\nsdram_part = 'x'", "sdram_part = 'x': known parts are"),
    ],
)
def test_mistakes(tmp_path, capsys, text, message):
    (tmp_path / "mine.toml").write_text(text)
    output = tmp_path / "rtl"
    assert main(["generate", "--config", str(tmp_path / "mine.toml"), "-o", str(output)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tamale: configuration ") and message in error
    assert error.count("\n") == 1
    assert not output.exists()


def test_unknown_configuration(capsys):
    assert main(["generate", "--config", "nothing"]) == 1
    assert "unknown configuration 'nothing'; use a .toml file or one of" in capsys.readouterr().err


def test_output_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    arguments = ["generate", "accelerator", "--config", "tiny", "-o", str(tmp_path / "file")]
    assert main(arguments) == 1
    assert "file" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ("run", "generate", "pack", "synth", "test", "examples:")),
        (["run"], ("--prompt", "--backend {rtl,golden,float}", "--temperature", "--logits")),
        (["generate"], ("accelerator", "--config", "--list")),
        (["pack"], ("checkpoint", "--context", "--json")),
        (["synth"], ("array", "--seeds", "--area")),
        (["test"], ("--long", "SIM=verilator")),
    ],
)
def test_help(capsys, command, words):
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert all(word in text for word in words)


@pytest.mark.parametrize("arguments", [[], ["fly"], ["generate", "chip"], ["run", "--tokens", "x"]])
def test_wrong_arguments(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "usage: tamale" in capsys.readouterr().err
