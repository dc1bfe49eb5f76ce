"""Command lines: what every script's help says."""

from __future__ import annotations

import argparse
from pathlib import Path

from platekit.arguments import HelpFormatter, ListOf


def test_help_names_each_default_as_one_would_type_it(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    parser = argparse.ArgumentParser(formatter_class=HelpFormatter)
    for flag, default in (("sizes", (50.0, 15.5)), ("folders", [tmp_path / "50%" / "in"]), ("out", Path("/far/away")),
                          ("none", None), ("empty", []), ("number", 0)):
        parser.add_argument(f"--{flag}", default=default, help=f"what {flag} are")
    parser.add_argument("--switch", action="store_true", help="a switch")
    parser.add_argument("--said", default=3, help="the default is three")
    lines = [line.rpartition("  ")[2].strip() for line in parser.format_help().splitlines() if "  --" in line]
    assert lines == ["what sizes are (default: 50 15.5)", f"what folders are (default: {Path('50%') / 'in'})",
                     f"what out are (default: {Path('/far/away')})", "what none are", "what empty are",
                     "what number are (default: 0)", "a switch", "the default is three"]


def test_a_list_given_in_parts_is_one_and_replaces_the_default():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", nargs="*", action=ListOf, type=int, default=[7])
    for flags, wanted in ((), [7]), (("--data", "1", "2"), [1, 2]), (("--data", "1", "--data", "2"), [1, 2]), \
            (("--data",), []):
        assert parser.parse_args(flags).data == wanted
