"""Evaluation results as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ccpd.protocol import (
    APPROXIMATE_IOU,
    IOU_THRESHOLD,
    MEASURES,
    READ_IOU,
    STAGES,
    Calibration,
    Outcome,
    Share,
    calibrate_readings,
    summarise_subsets,
)
from platekit.files import write_text


def write_reports(folder: Path, outcomes: Sequence[Outcome], facts: dict[str, Any]) -> None:
    """Write ``report.md``, ``report.json`` and ``report.csv``; ``facts`` say how the figures came about."""
    rows = summarise_subsets(outcomes)
    calibration = calibrate_readings(outcomes)
    write_text(
        folder / "report.json",
        json.dumps({"facts": facts, "subsets": rows, "calibration": calibration}, default=dataclasses.asdict, indent=1,
                   ensure_ascii=False)
        + "\n",
    )
    write_text(folder / "report.csv", as_csv(rows))
    write_text(folder / "report.md", as_markdown(rows, calibration, facts))


def as_csv(rows: dict[str, dict[str, Any]]) -> str:
    """One line a subset; every share with its interval and count."""
    out = io.StringIO()
    names = [f"{key}{part}" for key in MEASURES for part in ("", "_low", "_high", "_count")]
    times = [(stage, part) for stage in STAGES for part in ("median", "p95")]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["subset", "images", *names, *(f"{stage}_{part}" for stage, part in times)])
    for subset, row in rows.items():
        shares: list[Any] = []
        for key in MEASURES:
            share: Share | None = row[key]
            shares += (
                [""] * 4
                if share is None
                else [f"{share.value:.4f}", f"{share.low:.4f}", f"{share.high:.4f}", share.count]
            )
        writer.writerow(
            [subset, row["images"], *shares, *(f"{row[stage][part]:.1f}" for stage, part in times)]
        )
    return out.getvalue()


def as_markdown(rows: dict[str, dict[str, Any]], calibration: Calibration, facts: dict[str, Any]) -> str:
    """A table a person reads: shares in percent with their 95 % intervals."""
    headings = ["subset", "photos", *(heading for heading, _, _ in MEASURES.values()), "detect ms", "recognise ms"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for subset, row in rows.items():
        cells = [subset, str(row["images"])]
        cells += ["" if row[key] is None else str(row[key]) for key in MEASURES]
        cells += [f"{row[stage]['median']:.0f} ({row[stage]['p95']:.0f})" for stage in STAGES]
        lines.append("| " + " | ".join(cells) + " |")
    fact_lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return (
        f"# Evaluation on CCPD\n\n{fact_lines}\n\n" + "\n".join(lines) + "\n\n"
        "Shares with 95 % intervals (bootstrap, widened to the exact ones); only the best box counts.\n"
        f"found: IoU above {IOU_THRESHOLD}, or {APPROXIMATE_IOU} where the box is approximate;\n"
        f"read: every symbol right, wherever the box is; read, IoU > {READ_IOU}: the rule of CCPD's authors "
        f"({APPROXIMATE_IOU} where approximate); both: found and read;\n"
        "characters: symbols right by the cheapest alignment; more boxes: photos of a plate in which further boxes "
        "were found, of another plate or of none;\nfalse plates: photos without a plate in which one was found. "
        "Times: median (95th percentile) a photo.\n\n"
        + (f"Expected calibration error of the confidence, of {sum(calibration.count)} readings: "
           f"{calibration.error:.3f} (leaving out {calibration.left_out} of something else than the annotated plate)\n"
           if calibration.count else "")
    )
