"""Train the small net that tells plates' colours (main.py --details), on drawn plates: two minutes on a core.

    python LPRNet/train_colour.py --glyphs GLYPHS --img_dirs_train CROPS

It sees them as the spatial transformer straightens them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # run as a file: import from the repository root
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from LPRNet.alphabet import Alphabet
from LPRNet.data.labels import LABELS_HELP, read_labels
from LPRNet.data.load_data import LPRDataLoader, collate_fn
from LPRNet.data.rendered import RenderedPlates, build_rendered
from LPRNet.details import COLOURS, ColourNet, mean_colours
from LPRNet.model.STN import STNet
from LPRNet.paths import CROPS_TRAIN, STN_WEIGHTS, TRAINED_COLOUR
from platekit.arguments import HelpFormatter, ListOf, add_glyphs, add_seed, check_range, for_help
from platekit.checkpoints import check_save, load_weights, save_weights
from platekit.errors import run_script
from platekit.paths import must_be_there
from platekit.training import seed_everything

BATCH = 256
EPOCHS = 30
LEARNING_RATE = 5e-3  # the highest, of one cycle
WEIGHTS = (2.0, 1.0, 1.0, 0.5, 1.0)  # of COLOURS: streets show more blue plates and fewer black ones
TINT = 0.15  # of lamps and cameras: standard deviation of the logarithm by which a channel is brighter or darker


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--img_dirs_train", nargs="+", action=ListOf, default=[CROPS_TRAIN], metavar="DIR",
                        help=f"folders of crops, which surround the drawn plates (default: {for_help(CROPS_TRAIN)})")
    parser.add_argument("--labels", nargs="+", action=ListOf, metavar="FILE", default=[], help=LABELS_HELP)
    add_glyphs(parser)
    parser.add_argument("--count", type=int, default=30000, help="plates to draw; every tenth is to measure by")
    parser.add_argument("--save", type=Path, default=TRAINED_COLOUR, metavar="FILE", help="where the weights go")
    parser.add_argument("--stn", type=Path, default=STN_WEIGHTS, metavar="FILE",
                        help="weights of the spatial transformer that straightens the plates")
    add_seed(parser, "of all that is random")
    args = parser.parse_args()
    check_range(args, "count", 10 * BATCH)
    check_save([args.save])
    return args


@torch.inference_mode()
def draw(rendered: RenderedPlates, stn: STNet, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean colours (N, 3, *AREAS) of drawn plates, straightened, and the indices (N,) of their colours."""
    colours, labels = [], []
    rng = np.random.default_rng(seed)
    for start in tqdm(range(0, count, BATCH), desc="draw", unit="batch"):
        plates = [rendered.plate(rng) for _ in range(min(BATCH, count - start))]
        crops = collate_fn([rendered.view_of(kind, text, rng, for_colour=True)[:2] for kind, text in plates])[0]
        colours.append(mean_colours(stn(crops)))
        labels += [COLOURS.index(kind.colour) for kind, _ in plates]
    return torch.cat(colours), torch.tensor(labels)


def fit(colours: torch.Tensor, labels: torch.Tensor) -> ColourNet:
    """A net for these mean colours (N, 3, *AREAS) and labels (N,)."""
    net = ColourNet()
    weights = torch.tensor(WEIGHTS)
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in tqdm(range(EPOCHS), desc="train", unit="epoch"):
        for chosen in torch.randperm(len(labels)).split(BATCH)[:len(labels) // BATCH]:
            tints = (TINT * torch.randn(len(chosen), 3, 1, 1)).exp()
            tinted = ((colours[chosen] + 1) * tints - 1).clamp(max=1)  # -1 is black, 1 as bright as can be
            loss = functional.cross_entropy(net.of_means(tinted), labels[chosen], weights)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main() -> None:
    args = parse_arguments()
    seed_everything(args.seed)
    if args.img_dirs_train == [CROPS_TRAIN]:
        must_be_there(args.img_dirs_train, "LPRNet/data/preprocess.py")
    real = LPRDataLoader(args.img_dirs_train, labels=read_labels(args.labels))
    stn = STNet().float()
    load_weights(stn, args.stn, "stn")
    colours, labels = draw(build_rendered(args.glyphs, real, Alphabet()), stn.eval(), args.count, args.seed)
    aside = torch.arange(len(labels)) % 10 == 9
    net = fit(colours[~aside], labels[~aside])
    with torch.inference_mode():
        right = net.of_means(colours[aside]).argmax(dim=1) == labels[aside]
    shares = (f"{colour} {right[labels[aside] == index].float().mean():.1%}" for index, colour in enumerate(COLOURS))
    save_weights(args.save, net)
    print(f"wrote {args.save}; right of {len(right)} plates set aside: {right.float().mean():.1%}", *shares, sep=", ")


if __name__ == "__main__":
    run_script(main)
