"""The report of a calibration in a folder: the document, a row a person, and two figures."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from calib.errors import UserError
from experiments.sbc import Found
from experiments.sbc_ranks import histogram

_BLUE, _GREY = "#0072B2", "#808080"
_COLUMNS = 4  # of small figures
_LEVEL = 0.99  # of the band of uniform ranks


def claim(folder: Path) -> None:
    """Make the folder. UserError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); choose another folder") from None


def write_report(folder: Path, body: dict[str, Any], found: Found) -> None:
    """sbc.json, people.csv, ranks.svg, reliability.svg; files of these names are replaced."""
    try:
        (folder / "sbc.json").write_text(json.dumps(body, indent=1) + "\n")
        (folder / "people.csv").write_text(_rows(found))
        _draw_ranks(folder / "ranks.svg", body, found)
        _draw_reliability(folder / "reliability.svg", body)
    except OSError as error:
        raise UserError(f"--out {folder}: cannot be written ({error.strerror}); choose another folder") from None


def _rows(found: Found) -> str:
    """A row a person: of each parameter the rank of the truth and the share of the posterior below it."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    names = [f"{what} {name}" for what in ("rank", "share") for name in found.names]
    rows.writerow(["person", *names, "p_aligned", "aligned"])
    for i in range(len(found.ranks)):
        shares = (f"{share:.6f}" for share in found.shares[i])
        rows.writerow([i, *found.ranks[i].tolist(), *shares, f"{found.p_aligned[i]:.6f}", int(found.aligned[i])])
    return text.getvalue()


def _draw_ranks(path: Path, body: dict[str, Any], found: Found) -> None:
    """A histogram a parameter, with the band in which 99% of the bars of uniform ranks lie."""
    plt, save = _drawing()
    num, people = len(found.names), len(found.ranks)
    lines = -(-num // _COLUMNS)
    figure, axes = plt.subplots(lines, _COLUMNS, figsize=(11, 1.9 * lines + 0.5), sharex=True, sharey=True)
    for axis in axes.flat[num:]:
        axis.set_visible(False)
    for k, axis in enumerate(axes.flat[:num]):
        counts = histogram(found.ranks[:, k], found.num_draws)
        edges = np.linspace(0, 1, len(counts) + 1)
        low, high = binom.interval(_LEVEL, people, 1 / len(counts))
        axis.axhspan(low, high, color=_GREY, alpha=0.25, linewidth=0)
        axis.axhline(people / len(counts), color=_GREY, linewidth=1)
        axis.stairs(counts, edges, fill=True, color=_BLUE, alpha=0.75)
        of = body["parameters"][k]
        axis.set_title(f"{of['name']}\np {of['rank_p']:.3f}, 90% interval {of['coverage_90']:.1%}", fontsize=8)
        axis.tick_params(labelsize=7)
    figure.supxlabel("rank of the truth among posterior draws, as a share", fontsize=9)
    figure.supylabel("people", fontsize=9)
    save(figure, path)


def _draw_reliability(path: Path, body: dict[str, Any]) -> None:
    """Observed against predicted, with the band of a perfect forecaster."""
    plt, save = _drawing()
    figure, axes = plt.subplots(1, 2, figsize=(8, 4.2))
    for axis, name, title in zip(axes, ("choice", "aligned"), ("predicted answers", "P(aligned)"), strict=True):
        rows = body[f"{name}_bins"]
        x = [row["predicted"] for row in rows]
        axis.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
        axis.fill_between(x, [r["low"] for r in rows], [r["high"] for r in rows], color=_GREY, alpha=0.3, linewidth=0)
        axis.plot(x, [row["observed"] for row in rows], "o-", color=_BLUE, markersize=4, linewidth=1)
        axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="predicted probability", ylabel="share that happened")
        ece, perfect = body[f"{name}_ece"], body[f"{name}_ece_expected"]
        note = "none" if ece is None else f"ECE {ece:.4f}, a perfect forecaster's {perfect['mean']:.4f}"
        axis.set_title(f"{title}\n{note}", fontsize=9)
    save(figure, path)


def _drawing() -> tuple[Any, Any]:
    """pyplot without a screen, and how to save."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "sbc", "svg.fonttype": "none", "font.family": "sans-serif"})
    import matplotlib.pyplot as plt

    def save(figure: Any, path: Path) -> None:
        figure.tight_layout()
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
        plt.close(figure)
        svg = text.getvalue()
        path.write_text(svg[svg.index("<svg") :])  # without a document type, which names an address

    return plt, save
