"""The table of ``peers.json``, in Markdown, and its place in ``README.md``."""

from __future__ import annotations

from typing import Any

BEGIN, END = "<!-- made by peers.py: begin -->", "<!-- made by peers.py: end -->"


def placed(page: str, section: str) -> str:
    """The page with the section between its marks, or at its end where it has none yet."""
    new = f"{BEGIN}\n\n{section}\n{END}"
    if BEGIN in page and END in page:
        return page[: page.index(BEGIN)] + new + page[page.index(END) + len(END) :]
    return f"{page.rstrip()}\n\n{new}\n"


def section(document: dict[str, Any]) -> str:
    """What `peers.json` holds, for people."""
    threads, peers, accuracy = document["threads"], document["peers"], document["accuracy_on"]
    first = next(iter(peers), "")
    lines = [
        f"Made on {document['made']} by `{document['command']}`, on {_machine(document['hardware'])}.",
        (
            f"Accuracy is of the {accuracy['images']} images ({accuracy['cells']:,} cells) of the split "
            f"'{accuracy['split']}' of {accuracy['dataset']},"
        ),
        "scored for all by `cellseg_host.evaluation.metrics` from the label images: AP@t is TP / (TP + FP + FN) with",
        "cells matched at IoU above t, mean AP averages t = 0.50:0.05:0.95, both are means over images. Mean IoU is",
        "two-class, of the foreground at 0.4 where the network has such a map, else of the labels. Count error",
        "is |Σ counted − Σ true| / Σ true, in which too many cells in one image and too few in another cancel;",
        "image by image it is Σ |counted − true| / Σ true, in which they do not. Installed is all that pip brings,",
        "without the weights of peers that come without.",
        "",
        "| | AP@0.5 | mean AP | mean IoU | count error | image by image | installed, MB |",
        "|---|---|---|---|---|---|---|",
        *(_accuracy_row(name, peer) for name, peer in peers.items()),
        "",
        *_by_group(peers),
        f"Time is of one field, {document['field']}, from the PNG file to the labels in memory; every process is",
        (
            "bound to as many cores as it has threads, all take turns, and medians over the rounds "
            f"({document['rounds']}) are given."
        ),
        f"× is the median of the rounds' ratios to {first}. Memory is the most that the process held, its libraries",
        "included, at any of these numbers of threads.",
        "",
        "| " + "".join(f"| {_threads(t)}: s | of it network | × " for t in threads) + "| memory, MB |",
        "|---|" + "---|---|---|" * len(threads) + "---|",
        *(_time_row(name, peer, threads) for name, peer in peers.items()),
        "",
        *(f"- **{name}**: {peer['about']} ({_versions(peer)})." for name, peer in peers.items()),
        *(f"- **{name}** is left out: {reason}." for name, reason in document["left_out"].items()),
    ]
    return "\n".join(lines) + "\n"


def _accuracy_row(name: str, peer: dict[str, Any]) -> str:
    accuracy = peer.get("accuracy", {}).get("all")
    if accuracy is None:
        cells = ["–"] * 5
    else:
        cells = [f"{accuracy[key]:.3f}" for key in ("ap50", "mean_ap", "mean_iou")]
        cells += [f"{accuracy[key]:.1%}" for key in ("total_count_error", "image_count_error")]
    return f"| {name} | {' | '.join(cells)} | {peer['install_mb']:,.0f} |"


def _by_group(peers: dict[str, Any]) -> list[str]:
    """AP@0.5 by modality and set, where there is more than one."""
    scored = {name: peer["accuracy"] for name, peer in peers.items() if "accuracy" in peer}
    groups = [group for group in next(iter(scored.values()), {}) if group != "all"]
    if len(groups) < 2:
        return []
    counts = {group: next(iter(scored.values()))[group]["images"] for group in groups}
    rows = {name: [f"{accuracy[group]['ap50']:.3f}" for group in groups] for name, accuracy in scored.items()}
    return [
        f"| AP@0.5 | {' | '.join(f'{group} ({count})' for group, count in counts.items())} |",
        "|---|" + "---|" * len(groups),
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
        "",
    ]


def _time_row(name: str, peer: dict[str, Any], threads: list[int]) -> str:
    cells = []
    for count in threads:
        measured = peer["threads"][str(count)]
        network = f"{measured['network_seconds']:.3g}" if "network_seconds" in measured else "–"
        alone = peer["cells_in_field"] is None
        times = f"{measured['times_first']:.3g}" if "times_first" in measured else "–"
        cells += ["network alone" if alone else f"{measured['seconds']:.3g}", network, f"≥ {times}" if alone else times]
    memory = max(peer["threads"][str(count)]["peak_rss_mb"] for count in threads)
    return f"| {name} | {' | '.join(cells)} | {memory:,.0f} |"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _versions(peer: dict[str, Any]) -> str:
    return ", ".join(v if v.startswith(k) or " " in v else f"{k} {v}" for k, v in peer["versions"].items())


def _machine(hardware: dict[str, Any]) -> str:
    return f"{hardware['model'] or 'a computer'} ({hardware['machine']}, {hardware['cores']} cores)"
