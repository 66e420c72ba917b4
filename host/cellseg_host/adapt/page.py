"""The page about an adapted model: verdict, numbers and pictures, in one HTML file."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterator

from cellseg_device.model.interpreter import Model
from cellseg_device.units import plural
from cellseg_host import __version__
from cellseg_host.adapt.adapt import Adapted
from cellseg_host.adapt.verdict import Verdict
from cellseg_host.evaluation.evaluate import Summary, score_image, summarise
from cellseg_host.evaluation.grouping import groups
from cellseg_host.report import page, pictures
from cellseg_host.report.comparison import number
from cellseg_host.report.pictures import Shown
from cellseg_host.report.scoring import ScoredImage

TITLE = "Adapted model"


def render(found: Adapted) -> str:
    """Return the page, in whose first sentence the verdict is."""
    request = found.request
    sample = f"{plural(len(request.checked.items), 'image')} with {plural(sum(request.checked.cells), 'cell')}"
    lines = [
        f"{request.corrections.path.name}: {sample}",
        f"{request.start.card.name} to {request.name}; cellseg-host {__version__}, {datetime.date.today().isoformat()}",
    ]
    return page.render_page(
        f"{TITLE} {request.name}",
        "adapt.html",
        lines,
        verdict=sentences(found),
        found=found,
        shown=_shown(found),
        losses=losses(found.replayed) if found.replayed else {},
        names=[request.start.card.name, request.name],
    )


def sentences(found: Adapted) -> list[str]:
    """Return the verdict in sentences, the most important first."""
    return list(_sentences(found))


def _sentences(found: Adapted) -> Iterator[str]:
    proven, plan = found.verdict, found.request.plan
    if proven is None:
        yield "Nothing proves that the new model is better: there was no image to judge it by."
        return
    yield (
        f"The new model is {'better' if proven.is_better else 'not better'}: on "
        f"{plural(proven.new.images, 'image')} held out from learning, {proven.numbers()}."
    )
    if not proven.is_better and found.data is not None:
        yield "It was written all the same, as --anyway asks for."
    gain = proven.gains["ap50"]
    if math.isfinite(gain.low):  # not for a single image
        chance = "" if gain.excludes_zero else ": it may be chance, and more corrected images would tell"
        low, high = (number(value, signed=True) for value in (gain.low, gain.high))
        yield f"The 95 % interval of the change in AP@0.5 is {low} to {high}{chance}."
    if plan.final is not None and found.data is not None:
        yield (
            f"It was judged by {len(plan.folds)} models, each trained without the images that it is judged by, half as "
            "long; the one that was written has learnt from all of them."
        )
    if plan.is_one_source:
        yield "All images are parts of one: how the model does on other images is not known."


def losses(replayed: Verdict) -> dict[str, tuple[Summary, Summary]]:
    """Return what the start and the new model make of each group of images that are replayed, by its title."""
    return {
        title: (
            summarise([replayed.before[place] for place in places]),
            summarise([replayed.after[place] for place in places]),
        )
        for title, places in groups(replayed.before).items()
    }


def _shown(found: Adapted) -> dict[str, Shown]:
    """Return pictures of the held-out images with the worst, the median and the most changed score, by these words."""
    held = [
        (place, judged, after.ap50, after.ap50 - before.ap50)
        for fold, judged in zip(found.request.plan.folds, found.judged, strict=True)
        if judged.held is not None
        for place, before, after in zip(fold.held, judged.held.before, judged.held.after, strict=True)
    ]
    if not held:
        return {}
    ranked = sorted(held, key=lambda one: (one[2], one[0]))
    chosen = {
        "Worst": ranked[0],
        "Median": ranked[len(ranked) // 2],
        "Changed most for the better": max(held, key=lambda one: one[3]),
    }
    places: set[int] = set()
    shown = {}
    for title, (place, judged, _, _) in chosen.items():
        if place not in places:
            places.add(place)
            shown[title] = _picture(found, place, Model(judged.path, 2))
    return shown


def _picture(found: Adapted, place: int, new: Model) -> Shown:
    entry = found.material.corrected[place]
    image, true = found.material.image(entry), found.material.labels(entry)
    models = tuple(score_image(model, entry, image, true) for model in (Model(found.start.path, 2), new))
    named = dataclasses.replace(entry, id=found.material.name(entry.id))
    return pictures.show(ScoredImage(named, image, true, models))
