"""Assembly of training lists: which of the generated samples a training uses, in one file.

A list is a text file. Its first lines, ``# array FINGERPRINT PATH``, name the arrays (relative to the list), with the
fingerprint of the ``samples.json`` beside them; every other line is ``array row label dx1 dy1 dx2 dy2``. Samples are
drawn without repetition: each occurs once or not at all.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from MTCNN import paths
from MTCNN.data_preprocessing.sample_store import ARRAY, SUMMARY, are_of_a_table, open_array
from MTCNN.data_preprocessing.windows import SAMPLE_KINDS
from platekit.arguments import HelpFormatter, add_seed, check_range, command_line, flags_of
from platekit.errors import UserError
from platekit.files import as_utf8, atomic_path, file_fingerprint, relative_name

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
    for folder in folders:
        if not (folder / SUMMARY).exists():
            raise UserError(f"{folder} holds no complete samples; run the gen_*_train_data.py script for it (again)")
    counts = {kind: [len(open_array(folder / f"{kind}.npy")) for folder in folders] for kind in SAMPLE_KINDS}

    def candidates(kind: str) -> np.ndarray:
        """Rows (N,) of a kind's arrays, one after another."""
        parts, first = [], 0
        for number, (count, share) in enumerate(zip(counts[kind], take)):
            rows = np.arange(first, first + count)
            parts.append(rows if share == 1 else
                         np.random.default_rng((seed, number)).permutation(rows)[:round(share * count)])
            first += count
        return np.concatenate(parts)

    rows_of = {kind: candidates(kind) for kind in SAMPLE_KINDS}
    if not len(rows_of["positive"]):
        raise UserError(f"no positives in {', '.join(map(str, folders))}; generate samples from photos with plates")
    unit = len(rows_of["positive"]) / shares["positive"]
    if size is not None:
        unit = min(unit, size / sum(shares.values()))
        if unit * shares["positive"] < 1:
            raise UserError(f"--size {size} leaves no positives; give {math.ceil(sum(shares.values()))} or more")
    rng = np.random.default_rng(seed)
    chosen = {kind: rng.permutation(rows)[:int(unit * shares[kind] + 1e-9)] for kind, rows in rows_of.items()}
    arrays = list(itertools.product(folders, SAMPLE_KINDS))
    header = "".join(f"{ARRAY}{file_fingerprint(folder / SUMMARY)} "
                     f"{relative_name(folder / f'{kind}.npy', target.parent)}\n" for folder, kind in arrays)
    with atomic_path(target) as temporary, open(temporary, "wb") as file:
        file.write(as_utf8(header, target))
        for kind, rows in chosen.items():
            is_chosen = np.zeros(sum(counts[kind]), bool)
            is_chosen[rows] = True
            for folder, mask in zip(folders, np.split(is_chosen, np.cumsum(counts[kind])[:-1])):
                array = arrays.index((folder, kind))
                file.writelines(b"%d %b" % (array, line) for line in lines_of(folder / f"{kind}.txt", mask))
    return {kind: len(rows) for kind, rows in chosen.items()}


def lines_of(path: Path, mask: np.ndarray) -> Iterator[bytes]:
    """The lines under the mask (N,) of a kind's list; UserError where it has not N lines."""
    try:
        with open(path, "rb") as file:
            for line, chosen in itertools.zip_longest(file, mask.tobytes()):
                if line is None or chosen is None:
                    raise UserError(f"{path} has not a line for each of {len(mask)} samples; remove {path.parent} "
                                    "and generate it again")
                if chosen:
                    yield line
    except OSError as error:
        raise UserError(f"cannot read the list {path}: {error.strerror}; remove {path.parent} and generate it again") \
            from None


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
    args = parser.parse_args(arguments)
    shares = {kind: getattr(args, f"{kind}s") for kind in SAMPLE_KINDS}
    if not all(0 <= share <= 1e6 for share in shares.values()) or shares["positive"] == 0:
        raise UserError("the shares must be from 0 to a million, and that of the positives not 0")
    if args.size is not None:
        check_range(args, "size", 1)
    for folders, target, size, take in ((args.samples_train, args.list_train, args.size, args.take),
                                        (args.samples_val, args.list_val, None, None)):
        if folders:
            rows = assemble(folders, target, shares, size, args.seed, take)
            print(f"wrote {target}: " + ", ".join(f"{count} {kind}s" for kind, count in rows.items())
                  + f" out of {', '.join(map(str, folders))}")
    flags = {f"--list_{split}": (getattr(args, f"list_{split}"), paths.list_file(net, split))
             for split in ("train", "val")}
    more = [] if args.samples_val else ["--list_val LIST"]
    if any(map(are_of_a_table, args.samples_train)):  # of which there are seldom enough to train from scratch
        bundled = paths.PNET_WEIGHTS if net == "pnet" else paths.ONET_WEIGHTS
        more += [command_line(["--weights", bundled, "--save", f"my_{net}"])]
    print(f"next: python MTCNN/train/Train_{net.capitalize()}.py", *flags_of(flags), *more)
