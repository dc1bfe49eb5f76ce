"""Whether the commands in the documents are those that the scripts take."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from platekit.paths import ROOT, SAMPLES

DOCUMENTS = ("README.md", "README.zh.md", "FAQ.md", "RESULTS.md", "MTCNN/weights/README.md", "LPRNet/weights/README.md")


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The scripts of this project that a document calls, each as a module, and the flags that it gives them."""
    text = re.sub(r"\\\n\s*", " ", text)
    fence = r"```.*?\n(.*?)```"
    lines = [line for block in re.findall(fence, text, re.DOTALL) for line in block.splitlines()]
    lines += [part.replace("\n", " ") for part in re.findall(r"`([^`]+)`", re.sub(fence, "", text, flags=re.DOTALL))]
    values = dict(re.findall(r"(\w+)=(\([^)]*\)|[\w/]+)", text))  # of the shell's variables
    for line in lines:
        line = re.sub(r'"?\$\{?(\w+)(\[@\])?\}?"?', lambda name: values.get(name[1], "").strip("()"), line)
        for command in re.split(r"&&|\||\bpython ", line.partition(" #")[0]):
            script, _, rest = command.removeprefix("-m ").partition(" ")
            flags = re.findall(r"(?<!\S)--?[A-Za-z]\w*", rest)
            if flags and re.match("main|ccpd|LPRNet|MTCNN|platekit", script):
                yield script.removesuffix(".py").replace("/", "."), flags


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_flag_in_a_document_is_one_of_its_script(call, document):
    told = list(commands((ROOT / document).read_text("utf-8")))
    assert told
    for module, flags in told:
        known = call(importlib.import_module(module).main, "--help").out
        assert not [flag for flag in flags if not re.search(rf"(?<![\w-]){flag}\b", known)], (module, flags)


def test_the_detector_works_without_the_rest(tmp_path):
    """As the FAQ says: for another project MTCNN/ and platekit/ are enough."""
    for package in ("MTCNN", "platekit"):
        shutil.copytree(ROOT / package, tmp_path / package)
    code = "import sys; sys.modules.update(ccpd=None, LPRNet=None); from MTCNN.detector import Detector; " \
        "print(len(Detector(device='cpu').detect(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(next(SAMPLES.glob("*.jpg")))], cwd=tmp_path,
                          capture_output=True, text=True, env={"PATH": ""}, check=False)
    assert done.stdout.strip() == "1", done.stderr
