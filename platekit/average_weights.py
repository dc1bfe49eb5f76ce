"""Average the weights of two trainings of one net: one continued the other, or both started from the same weights.

    python platekit/average_weights.py FIRST SECOND --share 0.5 --save FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
from torch.nn import functional

from platekit.arguments import HelpFormatter, add_seed
from platekit.checkpoints import COUNTER, check_save, read_checkpoint, save_state
from platekit.errors import UserError, run_script

LIMITS = {"rows", "max_length"}  # what LPRNet's files tell of its plates, beside the symbols
LEAST_LIKENESS = 0.2  # two trainings from nothing have below 0.1, one that went on for long 0.4 with what it began with


def is_weight(name: object, value: object) -> bool:
    """Whether an entry of a state dict is a dense tensor of finite numbers, or a counter."""
    if not isinstance(name, str) or not isinstance(value, torch.Tensor) or value.is_quantized \
            or value.layout != torch.strided or value.is_meta:
        return False
    return bool(value.float().isfinite().all()) if value.is_floating_point() else name.endswith(COUNTER)


def likeness(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """The cosine (-1..1) between the matrices and kernels of two state dicts."""
    names = [name for name, value in first.items() if value.is_floating_point() and value.dim() > 1]
    if not names:
        return 1.0
    one, other = (torch.cat([state[name].float().flatten() for name in names]) for state in (first, second))
    return functional.cosine_similarity(one, other, dim=0).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0],
                                     formatter_class=HelpFormatter)
    parser.add_argument("weights", nargs=2, type=Path, metavar="FILE", help="two of one net")
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    add_seed(parser)
    parser.add_argument("--save", type=Path, required=True, metavar="FILE", help="where the average goes")
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        raise UserError(f"--share must lie between 0 and 1, not {args.share}")
    check_save([args.save])
    (first, facts), (second, other_facts) = map(read_checkpoint, args.weights)
    for path, state in zip(args.weights, (first, second)):
        if not state or not all(map(is_weight, state, state.values())):
            raise UserError(f"{path} holds nothing, more than a net's weights, or numbers that are not finite; name "
                            "files that a training's --save wrote")
    shapes, other_shapes = ({name: value.shape for name, value in state.items() if not name.endswith(COUNTER)}
                            for state in (first, second))
    chars = {str(told) for told in (facts.get("chars"), other_facts.get("chars")) if told}  # other programs note none
    if shapes != other_shapes or len(chars) > 1:
        raise UserError(f"{args.weights[0]} and {args.weights[1]} are weights of different nets; name two of one")
    if (alike := likeness(first, second)) < LEAST_LIKENESS:
        raise UserError(f"{args.weights[0]} and {args.weights[1]} have nothing in common (cosine {alike:.2f}): their "
                        "mean would be of no use; name two of which one continued the other, or that started alike")
    for name, value in first.items():
        if value.is_floating_point():
            first[name] = value.float().lerp(second[name].float(), args.share)
    facts = {name: value for name, value in {**other_facts, **facts}.items() if name in ("chars", *LIMITS)}
    for limit in facts.keys() & other_facts.keys() & LIMITS:  # what either can read
        facts[limit] = max(facts[limit], other_facts[limit])
    average = {"average": [path.name for path in args.weights], "share": args.share}
    save_state(args.save, dict(first), {**facts, **average})  # without what the first one notes
    print(f"wrote {args.save}")


if __name__ == "__main__":
    run_script(main)
