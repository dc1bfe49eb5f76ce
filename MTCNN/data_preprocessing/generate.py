"""Generation of training samples for both nets: photos in, memory-mapped arrays and lists out.

The two scripts differ in how they choose the windows of a view, which is a function passed to ``run``.
"""

from __future__ import annotations

import argparse
import itertools
import math
import operator
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from ccpd.annotation import plate_of
from ccpd.layout import corners_of_ordinary
from ccpd.views import POSES, View, make_view
from MTCNN import paths
from MTCNN.data_preprocessing.choosers import ONetWindows, PNetWindows
from MTCNN.data_preprocessing.photos import Photo, read_photos
from MTCNN.data_preprocessing.sample_store import PHOTOS, SampleWriter
from MTCNN.data_preprocessing.swap import PlateSwapper
from MTCNN.data_preprocessing.windows import SAMPLE_KINDS
from MTCNN.data_set.split import belongs_to_val
from platekit.arguments import ListOf, add_glyphs, add_seed, check_range, flags_of
from platekit.boxes import LEAST_SIDE, at_least, check_inside, encode_offsets
from platekit.corners import bounding_box
from platekit.crops import crop_resize, to_picture, upload
from platekit.errors import UserError
from platekit.files import alone_in, file_fingerprint, fingerprint, real_path, write_bytes
from platekit.images import read_image
from platekit.loaders import check_workers
from platekit.memory import keep_freed_memory
from platekit.paths import must_be_there
from platekit.tables import BOXES_HELP, Plates, plates_of_tables

Samples = dict[str, tuple[np.ndarray, np.ndarray]]  # kind -> pixels uint8 (N, h, w, 3), offsets float32 (N, 4)
Choose = Callable[[View, torch.Tensor, np.random.Generator], dict[str, np.ndarray]]  # kind -> windows (N, 4)
SAVE_EVERY = 200  # views between two saved states
OF_A_VIEW = ("positives", "parts", "near", "far", "mined")  # the flags that say how many samples a view gives


def cut_samples(picture: torch.Tensor, box: np.ndarray | None, chosen: dict[str, np.ndarray],
                size: tuple[int, int]) -> Samples:
    """The chosen windows (kind -> (N, 4)) of the uint8 picture (1, 3, H, W), resized to ``size`` as the detector does,
    and their offsets; negatives have offsets of 0."""
    samples = {}
    for kind in SAMPLE_KINDS:
        windows = chosen[kind]
        offsets = np.zeros((len(windows), 4), np.float32)
        if box is not None and kind != "negative":
            offsets = encode_offsets(box[None], windows).astype(np.float32)
        samples[kind] = (to_picture(crop_resize(picture, windows, size)), offsets)
    return samples


class ViewSamples(Dataset):
    """The samples of view ``index``; each photo's first view comes before any second one.

    Every draw depends on (seed, index) alone. A photo that cannot be read, or whose box lies outside, gives the
    error's text instead.
    """

    def __init__(self, photos: list[Photo], views: int, poses: list[str], seed: int | Sequence[int],
                 size: tuple[int, int], choose: Choose, swapper: PlateSwapper | None = None,
                 plate_size: Sequence[float] | None = None) -> None:
        """``plate_size``: (width, height) of the photos' plates in mm, where it is not the usual one."""
        self.photos, self.views, self.poses, self.seed = photos, views, poses, seed
        self.size, self.choose, self.swapper, self.plate_size = size, choose, swapper, plate_size

    def __len__(self) -> int:
        return len(self.photos) * self.views

    def __getitem__(self, index: int) -> Samples | str:
        torch.set_num_threads(1)  # crops are small; the processes of the loader are the parallelism
        rng = np.random.default_rng((*np.atleast_1d(self.seed), index))
        photo = self.photos[index % len(self.photos)]
        try:
            image = read_image(photo.path)
            box = plate_within(photo, *image.shape[:2])
        except UserError as error:
            return str(error)
        view = self.view_of(image, box, photo, rng, warped=index >= len(self.photos))
        pixels = upload(view.image)
        chosen = self.choose(view, pixels, rng)
        return cut_samples(pixels, view.box, chosen, self.size)

    def view_of(self, image: np.ndarray, box: np.ndarray | None, photo: Photo, rng: np.random.Generator,
                warped: bool) -> View:
        """A view of the photo, another plate on it maybe; not ``warped`` it is the photo but for that."""
        corners, tone = photo.corners, 1.0
        if corners is not None and not ((corners >= 0) & (corners <= image.shape[1::-1])).all():
            corners = None  # the box ends at the picture's edge
        # poses are those of ordinary plates: one of another shape goes where it would be in the place of such a plate
        ordinary = corners
        if corners is not None and self.plate_size is not None:
            ordinary = corners_of_ordinary(corners, self.plate_size)
        if self.swapper is not None and corners is not None:
            image, corners, tone = self.swapper(image, corners, rng)
            box = None if corners is None else bounding_box(corners)
        if not warped:
            return View(image, box, photo.ignore)
        return make_view(image, box, corners, photo.ignore, rng, self.poses, tone, ordinary)


def plate_within(photo: Photo, height: int, width: int) -> np.ndarray | None:
    """The box (4,) of the photo's plate in its picture of this size. Raises UserError for one that cannot be."""
    if photo.box is None:
        return None
    check_inside(photo.path, photo.box[None], height, width)
    box = np.minimum(photo.box, (width, height) * 2)
    if not at_least(box[None], LEAST_SIDE)[0]:
        raise UserError(f"{photo.path}: its box has no area; correct it")
    return box


def generate(folder: Path, data: ViewSamples, settings: dict, workers: int) -> bool:
    """Write the samples of all views into ``folder``; goes on where a killed run stopped. Returns whether photos were
    left out in this run: False where the folder was complete already."""
    writer = SampleWriter(folder, data.size, settings)
    if writer.complete:
        print(f"{folder} is complete: {describe(writer.rows)}")
        print_left_out(writer)
        return False
    if writer.steps:
        print(f"going on in {folder} after {writer.steps} of {len(data)} views")
    keep_freed_memory()
    check_workers(workers)
    started, before = time.monotonic(), sum(writer.rows.values())
    loader = DataLoader(data, batch_size=1, sampler=range(writer.steps, len(data)), num_workers=workers,
                        collate_fn=operator.itemgetter(0))
    for samples in tqdm(loader, desc=folder.name, unit="view", initial=writer.steps, total=len(data)):
        if isinstance(samples, str):
            writer.left_out[samples] = None
            samples = {}
        writer.add(samples)
        if writer.steps % SAVE_EVERY == 0:
            writer.save_progress()
    rows = writer.finish()
    seconds = time.monotonic() - started
    rate = (sum(rows.values()) - before) / max(seconds, 1e-9)
    print(f"wrote {folder}: {describe(rows)}; {rate:.0f} samples a second")
    print_left_out(writer)
    return bool(writer.left_out)


def print_left_out(writer: SampleWriter) -> None:
    """Which photos could not be used; they stay left out."""
    for failure in sorted(writer.left_out):
        print(f"left out: {failure}")
    if writer.left_out:
        print(f"to use these photos, repair them, remove {writer.folder} and run this again")


def describe(rows: dict[str, int]) -> str:
    """Rows by kind in words."""
    return ", ".join(f"{count} {kind}s" for kind, count in rows.items())


def add_common_arguments(parser: argparse.ArgumentParser, net: str) -> None:
    """The flags both generators share."""
    inputs = parser.add_argument_group("photos")
    inputs.add_argument("-dir_train", "--dir_train", nargs="+", action=ListOf, type=Path, default=[paths.PHOTOS_TRAIN],
                        metavar="DIR", help="folders of photos to train on, with CCPD names or in --boxes")
    inputs.add_argument("-dir_val", "--dir_val", nargs="*", action=ListOf, type=Path, default=[paths.PHOTOS_VAL],
                        metavar="DIR", help="folders of photos to validate on; give none to make no validation samples")
    inputs.add_argument("--hold_out", type=float, default=0.0, metavar="SHARE",
                        help="share of the training photos to validate on instead of --dir_val, chosen by plate "
                             "number, so that it is the same for both nets; photos without a known text go by file "
                             "name, so those of one car may be on both sides")
    inputs.add_argument("--boxes", nargs="+", action=ListOf, type=Path, default=[], metavar="FILE",
                        help=f"for photos without CCPD names: {BOXES_HELP}")
    inputs.add_argument("--plain_list", type=Path, metavar="FILE",
                        help="names of photos whose corners are not to be trusted, one per line")
    inputs.add_argument("--ignore_list", type=Path, metavar="FILE",
                        help="lines 'name x1 y1 x2 y2': regions that may show a plate nobody annotated")
    output = parser.add_argument_group("output")
    output.add_argument("--out_train", type=Path, default=paths.samples_folder(net, "train"), metavar="DIR",
                        help="where the training samples go")
    output.add_argument("--out_val", type=Path, default=paths.samples_folder(net, "val"), metavar="DIR",
                        help="where the validation samples go")
    views = parser.add_argument_group("views")
    views.add_argument("--views", type=int, default=8,
                       help="views of each training photo: the first as it is (but for --swap), the others warped and "
                            "changed in light")
    views.add_argument("--views_val", type=int, default=2, help="views of each validation photo")
    views.add_argument("--poses", nargs="+", choices=POSES, default=list(POSES), metavar="SUBSET",
                       help=f"CCPD subsets whose plate poses the views take: {', '.join(POSES)}")
    views.add_argument("--plate_size", nargs=2, type=float, metavar=("WIDTH", "HEIGHT"),
                       help="of the photos' plates in mm, where their corners are known; without it they are taken for "
                            "ordinary Chinese ones (440 140), and others get that shape in warped views")
    views.add_argument("--swap", type=float, default=0.0, metavar="SHARE",
                       help="share of the training views in which a drawn plate of any kind hides the photo's own")
    add_glyphs(views)
    add_seed(parser, "of all that is random")
    parser.add_argument("--workers", type=int, default=0, help="processes beside the main one; each takes one core")


def check_arguments(args: argparse.Namespace) -> None:
    """UserError for flags that cannot be, alone or together."""
    check_range(args, "hold_out", 0, 0.99)
    check_range(args, "swap", 0, 1)
    for flag in ("views", "views_val"):
        check_range(args, flag, 1)
    for flag in ("workers", *OF_A_VIEW):
        if flag in args:
            check_range(args, flag, 0)
    if args.plate_size and not all(0 < side < math.inf for side in args.plate_size):
        raise UserError("a plate has a width and a height above 0; change --plate_size")
    if args.plate_size and args.swap:
        raise UserError("--swap draws plates over ordinary Chinese ones only; leave --plate_size or it out")
    if args.hold_out and args.dir_val not in ([], [paths.PHOTOS_VAL]):
        raise UserError("--dir_val and --hold_out both say what to validate on; leave one of them out")
    if (args.hold_out or args.dir_val) and args.out_train.resolve() == args.out_val.resolve():
        raise UserError(f"training and validation samples would both go to {args.out_train}; name two folders")


def photos_by_split(args: argparse.Namespace) -> dict[str, list[Photo]]:
    """The photos to train on and, but where there are to be none, to validate on. Raises UserError."""
    plates = plates_of_tables(args.boxes)
    if plates and not args.hold_out and args.dir_val == [paths.PHOTOS_VAL] \
            and args.dir_train != [paths.PHOTOS_TRAIN]:
        raise UserError("there are no photos of yours to validate on; give --hold_out 0.1, or name a --dir_val")
    dir_val = [] if args.hold_out else args.dir_val
    must_be_there((folder for folder in (*args.dir_train, *dir_val)
                   if folder in (paths.PHOTOS_TRAIN, paths.PHOTOS_VAL)), "MTCNN/data_set/preprocess.py")
    for val, train in itertools.product(dir_val, args.dir_train):
        if val.resolve().is_relative_to(train.resolve()) or train.resolve().is_relative_to(val.resolve()):
            raise UserError(f"{train} (to train on) and {val} (to validate on) share photos; name others")
    train, val = (read_photos(folders, args.plain_list, args.ignore_list, plates) if folders else []
                  for folders in (args.dir_train, dir_val))
    if args.hold_out:
        # not as preprocess.py splits: of what that leaves to train on the same hash sets nothing aside
        aside = [belongs_to_val(f"hold_out/{plate_in(photo.path, plates)}", args.hold_out, 0) for photo in train]
        val = list(itertools.compress(train, aside))
        train = [photo for photo, is_aside in zip(train, aside) if not is_aside]
        if not train or not val:
            raise UserError(f"the photos are too few to set {args.hold_out:.2%} aside; give another share, or "
                            "--dir_val")
    return {"train": train, "val": val} if val else {"train": train}


def plate_in(path: Path, plates: Mapping[Path, Plates]) -> str:
    """What keeps photos of one car on one side: the (alphabetically first) text in a table, else ``plate_of``."""
    of_table = plates.get(real_path(path))
    return min(of_table.texts) if of_table and of_table.texts else plate_of(path)


def run(args: argparse.Namespace, net: str, size: tuple[int, int], choose: PNetWindows | ONetWindows,
        facts: dict) -> int:
    """Generate the samples of both splits; ``facts`` are what these depend on beside the common flags. Returns the exit
    status: 1 when photos were left out in this run, else 0."""
    check_arguments(args)
    split_photos = photos_by_split(args)
    left_out, flags = False, {}
    for split, photos in split_photos.items():
        left_out |= generate_split(args, net, split, photos, size, choose, facts)
        flags[f"--samples_{split}"] = getattr(args, f"out_{split}"), paths.samples_folder(net, split)
    print(f"next: python MTCNN/data_preprocessing/assemble_{net.capitalize()}_imglist.py", *flags_of(flags),
          *(["--samples_val"] if "val" not in split_photos else []))
    return int(left_out)


def generate_split(args: argparse.Namespace, net: str, split: str, photos: list[Photo], size: tuple[int, int],
                   choose: PNetWindows | ONetWindows, facts: dict) -> bool:
    """Generate the samples of one split, as ``run``. Whether photos were left out."""
    folder, views = (args.out_train, args.views) if split == "train" else (args.out_val, args.views_val)
    pictures = [photo.path for photo in photos]
    files = (f"{path.name} {path.stat().st_size if path.exists() else None}" for path in pictures)
    with_plate = sum(photo.box is not None for photo in photos)
    samples = len(photos) * views * choose.most
    room = samples * math.prod(size) * 3 / 1e6
    sources = args.dir_val if split == "val" and not args.hold_out else args.dir_train
    print(f"{split}: {with_plate} photos with a plate and {len(photos) - with_plate} without from "
          f"{', '.join(map(str, sources))}, {views} views each: up to {samples} samples, "
          + (f"{room / 1000:.1f} GB" if room > 1000 else f"{room:.1f} MB"))
    settings = {"net": net, "split": split, "photos": len(photos), "views": views, "seed": args.seed,
                "poses": args.poses, "set of files": fingerprint(*files),
                "plain_list": file_fingerprint(args.plain_list), "ignore_list": file_fingerprint(args.ignore_list),
                "swap": 0.0, **facts}
    if args.boxes:
        settings["boxes"] = [file_fingerprint(table) for table in args.boxes]
    if args.plate_size:
        settings["plate_size"] = args.plate_size
    swapper = None
    if split == "train" and args.swap:
        swapper = PlateSwapper(args.swap, args.glyphs)
        settings |= {"swap": args.swap, "glyphs": str(args.glyphs)}
    seed = args.seed, zlib.crc32(f"{net} {split}".encode())  # neither the nets nor the splits draw alike
    data = ViewSamples(photos, views, args.poses, seed, size, choose, swapper, args.plate_size)
    with alone_in(folder):
        left_out = generate(folder, data, settings, args.workers)
    names = dict.fromkeys(map(os.path.abspath, pictures))  # a photo of several plates is listed once
    write_bytes(folder / PHOTOS, os.fsencode("".join(f"{name}\n" for name in names)))
    return left_out
