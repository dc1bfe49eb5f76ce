import subprocess
import sys
from pathlib import Path

import pytest

from platekit.memory import unchanged_files
from tests.conftest import ROOT

SMAPS = Path("/proc/self/smaps")
FACTS = """Rss:                 {rss} kB
Private_Clean:       {rss} kB
Anonymous:           {anonymous} kB
AnonHugePages:         0 kB
Swap:                {swap} kB
SwapPss:               0 kB
VmFlags: rd ex mr mw me
"""


def mapping(rights: str = "r-xp", inode: int = 7, rss: int = 8, anonymous: int = 0, swap: int = 0) -> str:
    return f"7f0000001000-7f0000003000 {rights} 00001000 fe:00 {inode}    /lib/some library.so\n" \
        + FACTS.format(rss=rss, anonymous=anonymous, swap=swap)


@pytest.mark.parametrize("changed", [{"rights": "rw-p"}, {"rights": "r--s"}, {"inode": 0}, {"anonymous": 4},
                                     {"swap": 4}])
def test_only_files_without_changes_are_handed_back(changed):
    maps = mapping(**changed) + mapping("r--p") + mapping(**changed) + mapping()
    assert list(unchanged_files(maps)) == [(0x7f0000001000, 0x7f0000003000)] * 2
    assert list(unchanged_files(mapping(**changed))) == []


# What is held of files after a picture is read: by the class, then by the command. All that both need is loaded.
READ_TWICE = """import re, sys
from platekit.pipeline import PlateReader
from platekit.paths import SAMPLES
from platekit.read_plates import main
def held():
    return int(re.search(r"RssFile:\\s+(\\d+)", open("/proc/self/status").read())[1])
sample = sorted(SAMPLES.iterdir())[0]
PlateReader("cpu")(sample)
before = held()
sys.argv[1:] = ["--image", str(sample), "--device", "cpu", "--json", "-"]
main()
print(before, held())"""


@pytest.mark.skipif(not list(unchanged_files(SMAPS.read_text() if SMAPS.exists() else "")),
                    reason="the system does not say what is held of files")
def test_the_command_hands_back_what_only_loading_needed():
    lines = subprocess.run([sys.executable, "-c", READ_TWICE], cwd=ROOT, check=True, capture_output=True,
                           text=True).stdout.splitlines()
    assert '"plates": [{' in lines[0]
    before, after = map(int, lines[1].split())
    assert after < 0.8 * before
