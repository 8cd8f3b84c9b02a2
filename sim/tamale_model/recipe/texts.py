"""Gather the training texts: King James Bible and the six novels of Jane Austen.

Both are in the public domain and come from packages, so that a run is repeatable without a crawl:
Debian `bible-kjv` (the `bible` command) and Debian `r-cran-janeaustenr` (read with `Rscript`, which
that package depends on). A document is one chapter: a heading line that can be used as a prompt
("Psalms 23", "Emma, Chapter 5"), an empty line, then the text in plain ASCII. Verses stand on lines
of their own, without their numbers; paragraphs of novels are separated by an empty line.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

NOVELS = {
    "sensesensibility": "Sense and Sensibility",
    "prideprejudice": "Pride and Prejudice",
    "mansfieldpark": "Mansfield Park",
    "emma": "Emma",
    "northangerabbey": "Northanger Abbey",
    "persuasion": "Persuasion",
}
"""Data sets of `janeaustenr` and the titles used in headings, in order of publication."""

HELD_OUT_CYCLE = 40
"""Of every so many chapters of a source, the last two in order are held out (5 % of the text)."""


@dataclass(frozen=True)
class Chapter:
    """One document: `source` ("kjv" or "austen"), `heading`, and `text` that begins with it."""

    source: str
    heading: str
    text: str


def _run(command, package):
    if shutil.which(command[0]) is None:
        raise FileNotFoundError(
            f"command {command[0]!r} not found: install the Debian package {package!r}"
        )
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    if done.returncode or not done.stdout:
        message = done.stderr.decode("utf-8", "replace").strip()
        raise RuntimeError(
            f"{command[0]!r} gave no text ({message!r}): install the Debian package {package!r}"
        )
    return done.stdout.decode("utf-8")


def parse_kjv(listing):
    """Parse what `bible -l0 gen1:1-rev22:21` prints into chapters.

    Headings stand at the margin ("Genesis 1"); each verse is one line, "  7 And God made ...".
    """
    chapters, heading, verses = [], None, []

    def close():
        if heading is not None:
            chapters.append(Chapter("kjv", heading, heading + "\n\n" + "\n".join(verses)))

    for line in listing.splitlines():
        verse = re.match(r"\s+\d+ (.*)", line)
        if verse:
            verses.append(re.sub(r"\s+", " ", verse.group(1)).strip())
        elif line.strip():
            close()
            heading, verses = line.strip(), []
    close()
    return chapters


def parse_novel(title, lines):
    """Split the lines of one novel into chapters numbered from 1, also across volumes.

    Front matter, end marks, rows of asterisks, editorial remarks in brackets and footnotes go;
    underscores around emphasised words go; runs of blanks become one blank.
    """
    text = re.sub("£([0-9,]+)", r"\1 pounds", "\n".join(lines)).replace("_", "")
    paragraphs, chapters, number = [], [], 0

    def close():
        if number:
            heading = f"{title}, Chapter {number}"
            chapters.append(Chapter("austen", heading, "\n\n".join([heading, *paragraphs])))

    for block in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"\s+", " ", block).strip()
        if re.fullmatch(r"(chapter ([0-9]+|[ivxl]+)\.?)", paragraph, re.IGNORECASE):
            close()
            number += 1
            paragraphs = []
        elif re.fullmatch(r"(volume [ivx]+|the end|finis|[* ]*)", paragraph, re.IGNORECASE):
            continue
        elif not paragraph.startswith(("[", "*")):
            paragraphs.append(paragraph.replace("*", ""))
    close()
    return chapters


def gather():
    """Return all chapters of all sources, in order.

    Raises FileNotFoundError or RuntimeError, naming the package to install, where a source is
    missing, and ValueError where a source is not the text that the recipe knows.
    """
    kjv = parse_kjv(_run(["bible", "-l0", "gen1:1-rev22:21"], "bible-kjv"))
    names = ",".join(f'"{name}"' for name in NOVELS)
    script = (
        "suppressPackageStartupMessages(library(janeaustenr));"
        f'for (b in c({names})) {{ cat("@@", b, "\\n", sep=""); cat(get(b), sep="\\n") }}'
    )
    novels = {}
    for line in _run(["Rscript", "-e", script], "r-cran-janeaustenr").splitlines():
        if line.startswith("@@"):
            current = novels.setdefault(line[2:], [])
        else:
            current.append(line)
    austen = [c for name, title in NOVELS.items() for c in parse_novel(title, novels[name])]
    for source, chapters, expected in (("kjv", kjv, 1189), ("austen", austen, 269)):
        if len(chapters) != expected:
            raise ValueError(f"source {source!r} has {len(chapters)} chapters, not {expected}")
    for chapter in (*kjv, *austen):
        if not chapter.text.isascii():
            raise ValueError(f"chapter {chapter.heading!r} is not plain ASCII")
    return kjv + austen


def split(chapters):
    """Return (training chapters, held-out chapters), deterministically.

    Two neighbouring chapters of every 40 are held out, so that held-out text still runs on for
    longer than the context.
    """
    train, held_out, seen = [], [], {}
    for chapter in chapters:
        index = seen[chapter.source] = seen.get(chapter.source, -1) + 1
        group = held_out if index % HELD_OUT_CYCLE >= HELD_OUT_CYCLE - 2 else train
        group.append(chapter)
    return train, held_out
