"""Assembly of training lists: which of the generated samples a training uses, in one file.

A list is a text file. Its first lines, ``# array FINGERPRINT PATH``, name the arrays (relative to the list), with the
fingerprint of the ``samples.json`` beside them; every other line is ``array row label dx1 dy1 dx2 dy2``. Samples are
drawn without repetition: each occurs once or not at all.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from MTCNN import paths
from MTCNN.data_preprocessing.sample_store import SUMMARY, are_ones_own, open_array, read_rows, rows_as_text
from MTCNN.data_preprocessing.windows import SAMPLE_KINDS
from platekit.arguments import HelpFormatter, add_seed, command_line, flags_of
from platekit.errors import UserError
from platekit.files import file_fingerprint, relative_name, write_text

SHARES = {"positive": 1.0, "part": 1.0, "negative": 3.0}  # of the kinds, by default


def assemble(folders: Sequence[Path], target: Path, shares: dict[str, float], size: int | None, seed: int,
             take: Sequence[float] | None = None) -> dict[str, int]:
    """Write the list ``target`` of samples from ``folders``; return its rows by kind.

    ``shares`` bounds each kind by its share against the positives; ``size`` bounds the whole list; ``take`` is the
    share (0..1) of each folder's samples to choose from. Raises UserError when a folder is missing or incomplete, or
    when there are no positives.
    """
    take = [1.0] * len(folders) if take is None else take
    if len(take) != len(folders) or not all(0 <= share <= 1 for share in take):
        raise UserError(f"--take needs a share between 0 and 1 for each of the {len(folders)} folders of samples")
    arrays: list[Path] = []
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in SAMPLE_KINDS}
    for number, folder in enumerate(folders):
        if not (folder / SUMMARY).exists():
            raise UserError(f"{folder} holds no complete samples; run the gen_*_train_data.py script for it (again)")
        for kind in SAMPLE_KINDS:
            rows = read_rows(folder / f"{kind}.txt")
            array = open_array(folder / f"{kind}.npy")
            if len(rows) != len(array):
                raise UserError(f"{folder}: {kind}.txt has {len(rows)} lines for {len(array)} samples; "
                                "generate them again")
            if take[number] < 1:
                rows = np.random.default_rng((seed, number)).permutation(rows)[:round(take[number] * len(rows))]
            found[kind].append(np.column_stack([np.full(len(rows), len(arrays)), rows]))
            arrays.append(folder / f"{kind}.npy")
    rows_of = {kind: np.concatenate(parts) for kind, parts in found.items()}
    if not len(rows_of["positive"]):
        raise UserError(f"no positives in {', '.join(map(str, folders))}; generate samples from photos with plates")
    unit = len(rows_of["positive"]) / shares["positive"]
    if size is not None:
        unit = min(unit, size / sum(shares.values()))
    rng = np.random.default_rng(seed)
    chosen = {kind: rng.permutation(rows)[:round(unit * shares[kind])] for kind, rows in rows_of.items()}
    lines = [f"# array {file_fingerprint(path.with_name(SUMMARY))} {relative_name(path, target.parent)}\n"
             for path in arrays]
    lines += [rows_as_text(rows[np.lexsort((rows[:, 1], rows[:, 0]))]) for rows in chosen.values()]
    write_text(target, "".join(lines))
    return {kind: len(rows) for kind, rows in chosen.items()}


def run(net: str, description: str, arguments: list[str] | None = None) -> None:
    """The command line of both assembling scripts."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    for split in ("train", "val"):
        parser.add_argument(f"--samples_{split}", nargs="*" if split == "val" else "+", type=Path, metavar="DIR",
                            default=[paths.samples_folder(net, split)], help=f"folders of {split} samples")
        parser.add_argument(f"--list_{split}", type=Path, metavar="FILE", default=paths.list_file(net, split),
                            help="the list to write")
    for kind, share in SHARES.items():
        parser.add_argument(f"--{kind}s", type=float, default=share,
                            help=f"most {kind}s in the list, relative to the other kinds")
    parser.add_argument("--take", nargs="+", type=float, metavar="SHARE",
                        help="share of each training folder's samples to choose from; all of them by default")
    parser.add_argument("-size", "--size", type=int, help="samples in the training list, at most")
    add_seed(parser, "of all that is random")
    options = parser.parse_args(arguments)
    shares = {kind: getattr(options, f"{kind}s") for kind in SAMPLE_KINDS}
    if not all(0 <= share <= 1e6 for share in shares.values()) or shares["positive"] == 0:
        raise UserError("the shares must be from 0 to a million, and that of the positives not 0")
    if options.size is not None and options.size < 1:
        raise UserError(f"--size must be at least 1, not {options.size}")
    for folders, target, size, take in ((options.samples_train, options.list_train, options.size, options.take),
                                        (options.samples_val, options.list_val, None, None)):
        if folders:
            rows = assemble(folders, target, shares, size, options.seed, take)
            print(f"wrote {target}: " + ", ".join(f"{count} {kind}s" for kind, count in rows.items())
                  + f" out of {', '.join(map(str, folders))}")
    flags = {f"--list_{split}": (getattr(options, f"list_{split}"), paths.list_file(net, split))
             for split in ("train", "val")}
    more = [] if options.samples_val else ["--list_val LIST"]
    if any(map(are_ones_own, options.samples_train)):  # of which there are seldom enough to train from scratch
        bundled = paths.PNET_WEIGHTS if net == "pnet" else paths.ONET_WEIGHTS
        more += [command_line(["--weights", bundled, "--save", f"my_{net}"])]
    print(f"next: python MTCNN/train/Train_{net.capitalize()}.py", *flags_of(flags), *more)
