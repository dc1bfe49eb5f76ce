"""Whether the commands in the documents are those that the scripts take."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from platekit.paths import ROOT, SAMPLES

DOCUMENTS = ("README.md", "README.zh.md", "FAQ.md", "RESULTS.md", "MTCNN/weights/README.md", "LPRNet/weights/README.md",
             "tests/README.md")
RECIPES = {"LPRNet/weights/recipe.sh": 5, "MTCNN/weights/recipe.sh": 4}  # and how many paths each takes
PACKAGES = ("ccpd", "LPRNet", "MTCNN", "platekit")
SCRIPTS = [path for path in ("main.py", *(path.relative_to(ROOT).as_posix() for name in (*PACKAGES, "tests")
                                          for path in sorted((ROOT / name).rglob("*.py"))))
           if '\nif __name__ == "__main__":' in (ROOT / path).read_text("utf-8")]
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*(?![\w{-])", re.ASCII)
OF_OTHERS = {"--always", "--data-binary", "--dirty", "--factory", "--help", "--index-url", "--nnodes",
             "--nproc_per_node", "--shm-size", "--start-period", "--timeout-graceful-shutdown", "--unbuffered",
             "--upgrade"}


class Asked(Exception):
    """Raised in place of parsing: with the parser, and the name of the function that was to parse."""


@functools.cache
def command_line_of(script: str) -> tuple[argparse.ArgumentParser, Callable]:
    """The parser of a script, named by its path, and the function by which the script parses."""
    def asks(name: str) -> Callable:
        def ask(parser: argparse.ArgumentParser, *_: object) -> None:
            raise Asked(parser, name)
        return ask

    with pytest.MonkeyPatch.context() as patch:
        for name in ("parse_args", "parse_intermixed_args"):
            patch.setattr(argparse.ArgumentParser, name, asks(name))
        with pytest.raises(Asked) as asked:
            importlib.import_module(script.removesuffix(".py").replace("/", ".")).main()
    parser, name = asked.value.args
    return parser, getattr(parser, name)


def refusal(script: str, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What the script says of these arguments where it does not take them; nothing where it does."""
    parser, parse = command_line_of(script)
    known = parser._option_string_actions  # argparse takes the beginning of a flag for it
    if unknown := [word for word in words if re.match("--?[A-Za-z]", word) and word.partition("=")[0] not in known]:
        return f"{unknown} are no flags of {script}"
    try:
        parse(words)
    except SystemExit:
        return capsys.readouterr().err
    return ""


def commands(text: str) -> Iterator[tuple[str, str, bool]]:
    """The scripts of this project that a document calls, the arguments that it gives them, and whether these are all
    that the command needs, as in a block of code."""
    text = re.sub(r"\\\n\s*", " ", text)
    fence = r"```.*?\n(.*?)```"
    lines = [(line, True) for block in re.findall(fence, text, re.DOTALL) for line in block.splitlines()]
    lines += [(part.replace("\n", " "), False)
              for part in re.findall(r"`([^`]+)`", re.sub(fence, "", text, flags=re.DOTALL))]
    values = dict(re.findall(r"(\w+)=(\([^)]*\)|[\w/]+)", text))  # of the shell's variables
    for line, whole in lines:
        line = re.sub(r'"?\$\{?(\w+)(\[@\])?\}?"?', lambda name: values.get(name[1], "").strip("()"), line)
        for command in re.split(r"&&|\||\bpython ", line.partition(" #")[0]):
            script, _, rest = command.removeprefix("-m ").partition(" ")
            path = script if script.endswith(".py") else script.replace(".", "/") + ".py"
            if path in SCRIPTS:
                yield path, rest, whole


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_commands_in_a_document_are_those_that_its_scripts_take(document, capsys):
    told = list(commands((ROOT / document).read_text("utf-8")))
    assert told
    for script, rest, whole in told:
        if whole:
            assert not refusal(script, shlex.split(rest), capsys), (script, rest)
        known = command_line_of(script)[0]._option_string_actions
        flags = re.findall(r"(?<!\S)--?[A-Za-z]\w*", rest)
        assert not [flag for flag in flags if flag not in known], (script, rest)


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_commands_in_a_docstring_are_those_that_its_script_takes(script, capsys):
    text = importlib.import_module(script.removesuffix(".py").replace("/", ".")).__doc__
    told = re.findall(r"^    python (\S+\.py)(.*)$", re.sub(r"\\\n\s*", " ", text), re.MULTILINE)
    for path, rest in told:
        words = shlex.split(rest, comments=True)
        assert not refusal(path, [word for word in words if word not in ("...", "[DIR", "...]")], capsys), (path, rest)


def test_every_flag_that_is_named_anywhere_is_one_of_a_script():
    """In the documents' prose, and in what the scripts tell their users to give."""
    known = OF_OTHERS.union(*(command_line_of(script)[0]._option_string_actions for script in SCRIPTS))
    for path in (*map(ROOT.joinpath, DOCUMENTS), ROOT / "main.py",
                 *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))):
        assert not set(FLAG.findall(path.read_text("utf-8"))) - known, path


@pytest.mark.skipif(shutil.which("bash") is None or os.name == "nt", reason="there is no bash")
@pytest.mark.parametrize(("recipe", "count"), RECIPES.items())
def test_a_recipe_has_commands_that_the_scripts_take(recipe, count, capsys, tmp_path):
    """The recipe itself runs, with a ``python`` that only notes how it is called."""
    noted = tmp_path / "noted"
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" "" >> {shlex.quote(str(noted))}\n')
    python.chmod(0o755)
    given = [tmp_path / str(number) for number in range(count)]
    env = {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", ROOT / recipe, *given], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    called = [call.split("\n") for call in noted.read_text("utf-8").split("\n\n") if call]
    assert len(called) > 10
    for script, *words in called:
        path = Path(script).relative_to(ROOT).as_posix()
        assert not refusal(path, words, capsys), (path, words)


def test_the_detector_works_without_the_rest(tmp_path):
    """As the FAQ says: for another project MTCNN/ and platekit/ are enough."""
    for package in ("MTCNN", "platekit"):
        shutil.copytree(ROOT / package, tmp_path / package)
    code = "import sys; sys.modules.update(ccpd=None, LPRNet=None); from MTCNN.detector import Detector; " \
        "print(len(Detector(device='cpu').detect(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(next(SAMPLES.glob("*.jpg")))], cwd=tmp_path,
                          capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert done.stdout.strip() == "1", done.stderr
