"""`explain`: a run as one HTML page that needs neither a network nor a server. The sections are in `sections/`, what draws
them in `web/`."""
from __future__ import annotations

__all__ = ["explain", "render"]

import html
import importlib
import inspect
import json
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygan import __version__
from tinygan.cache import say
from tinygan.gans.costs import COSTS
from tinygan.runs.previews import PREVIEWS, inputs_of_run, translates
from tinygan.runs.rules import FORMULAS
from tinygan.runs.warnings import learning_rates, warnings_of_run
from tinygan.saving import write_atomically

from .recordings import Recording, is_recording
from .records import Absent, Run
from .sections import ahead, coupling, flow, signal, tape

_POINTS = ((r"\b(a|A)n image\b", r"\1 point"), (r"\bimage(s?)\b", r"point\1"), (r"\bImage(s?)\b", r"Point\1"))
"""In the plane, what a page calls image is a point."""

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Section(NamedTuple):
    """name: in the JSON and in the names of its files in `web/`. heading: a question or a claim."""

    name: str
    heading: str
    build: Callable[[Run], dict[str, Any] | Absent]


SECTIONS = (
    Section("signal", "What does the discriminator tell the generator?", signal.build),
    Section("flow", "Where do the gradients flow, and where do they stop?", flow.build),
    Section("tape", "What happens in one round, op by op?", tape.build),
    Section("ahead", "What changes if the generator looks ahead?", ahead.build),
    Section("coupling", "Which images talk to each other?", coupling.build),
)
"""The page's sections, from top to bottom."""

SCRIPTS = ("core", "pictures", "plane", "signal", "costs", "flow", "graph", "tape", "ahead", "coupling", "main")
"""The files of `web/` that draw, in the order in which they are loaded."""


_WITHOUT_DATA = ("without the run's data, the page lacks what needs them, and does not say whether the samples are all "
                 "alike: {}")


def explain(run: str | os.PathLike[str], out: str | os.PathLike[str] | None = None, gan: Any = None,
            data_dir: str | None = None) -> Path:
    """See `teaching.explain`, which loads this module at the first use."""
    opened = Recording(run, gan) if is_recording(run) else Run(run, gan, data_dir)
    if not isinstance(opened, Recording) and isinstance(dataset := opened.dataset(), Absent):
        say(_WITHOUT_DATA.format(dataset.reason))
    target = opened.path / "explain.html" if out is None else Path(out).expanduser()
    sections: dict[str, Any] = {}
    for section in SECTIONS:
        found = section.build(opened)
        sections[section.name] = {"absent": found.reason} if isinstance(found, Absent) else found
    write_atomically(target, render(about(opened), sections).encode())
    return target


def about(run: Run) -> dict[str, Any]:
    """What the page's first lines say of the run."""
    config = run.config
    settings, data = config["settings"], config["data"]
    return {"run": run.path.name, "variant": config["variant"],
            "title": run.settings.title if run.settings is not None else config["variant"],
            "data": data["name"], "images": data["images"], "image_shape": list(data["image_shape"]), "steps": run.step,
            "epochs": run.epoch, "cost": run.gan.cost, "notes": _notes(run),
            "rates": (None, None) if run.rules.keys() & {"g_optimizer", "d_optimizer"} else learning_rates(run.gan),
            "d_steps": run.gan.d_steps, "batch_size": settings.get("batch_size"),
            "records": len(run.records), "version": __version__}


def _notes(run: Run) -> list[str]:
    """What a reader has to know first: what is wrong with the training, and what the page does not know."""
    if isinstance(run, Recording):  # of a loop of the user's own: it has no history of losses
        return []
    dataset = run.dataset()
    samples = real = None
    if not isinstance(dataset, Absent) and not translates(run.gan):
        samples = run.gan.sample(z=inputs_of_run(run.gan, dataset, run.config["settings"]["seed"]))
        real = dataset.batch(np.arange(min(PREVIEWS, len(dataset))))
    alarms = warnings_of_run(run.gan, run.history, run.steps_per_epoch, samples, real)
    found = list(map(str, alarms))
    if isinstance(dataset, Absent):
        found.append(_WITHOUT_DATA.format(dataset.reason))
    known = {"cost", FORMULAS} if run.gan.cost in COSTS else {"cost"}
    unknown = {name: rule for name, rule in run.rules.items() if name not in known}
    if unknown:
        rules = "; ".join(f"{name} {rule}" for name, rule in unknown.items())
        found.append(f"The program of this run gave the GAN rules that its settings do not have: {rules}. This page does "
                     "not know them. In Python, tinygan.teaching.explain(run, gan=...) takes the program's GAN.")
    return found


def render(about: dict[str, Any], sections: dict[str, Any]) -> str:
    """The page. about: see `about`. sections: the JSON of each, or {"absent": reason}, by name."""
    content = json.dumps({"about": about, "sections": sections}, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    shown = [section for section in SECTIONS if section.name in sections]
    title = f"How this {about['title']} learnt"
    return _filled(_web("page.html"), {
        "title": html.escape(title), "facts": html.escape(_facts(about)),
        "notes": "\n".join(f'<p class="note">{html.escape(note)}</p>' for note in about["notes"]),
        "foot": html.escape(_foot(about)),
        "style": "\n".join(_web(f"{name}.css") for name in ("style", "figures")),
        "contents": "\n".join(_entry(letter, section, sections[section.name], about)
                              for letter, section in zip("abcdefgh", shown, strict=False)),
        "sections": "\n".join(_section(letter, section, sections[section.name], about)
                              for letter, section in zip("abcdefgh", shown, strict=False)),
        "data": content.replace("<", "\\u003c"),  # so that no text can end the element
        "scripts": "\n".join(_web(f"{name}.js") for name in SCRIPTS),
    })


def _facts(about: dict[str, Any]) -> str:
    epochs = "" if about["epochs"] is None else f", {about['epochs']:.3g} epoch{'' if about['epochs'] == 1 else 's'}"
    shape = " x ".join(map(str, about["image_shape"][1:]))
    batches = "" if about["batch_size"] is None else f" · batches of {about['batch_size']}"
    records = f"{about['records']} records" if about["records"] else "not recorded: its last state only"
    g_rate, d_rate = about["rates"]
    rates = "" if None in (g_rate, d_rate) else (f" · learning rate {d_rate:g}" if g_rate == d_rate else
                                                 f" · learning rates {g_rate:g} (generator) and {d_rate:g} (discriminator)")
    data = about["data"] if about["images"] is None else f"{about['data']}, {about['images']:,} images of {shape}"
    return (f"run {about['run']} · {data} · {about['steps']:,} steps{epochs} · "
            f"{about['cost']} cost{batches}{rates} · {records}")


def _foot(about: dict[str, Any]) -> str:
    return (f"Made by tinygan {about['version']} from {about['run']}. Every number was computed by the engine "
            "on this run's networks; nothing is illustrative. The page is one file and loads nothing.")


def _entry(letter: str, section: Section, found: dict[str, Any], about: dict[str, Any]) -> str:
    missing = ' class="missing"' if "absent" in found else ""
    note = " (not shown)" if "absent" in found else ""
    heading = html.escape(_wording(about)(section.heading))
    return f'<li><a href="#{section.name}"{missing}><b>{letter}</b> <span>{heading}{note}</span></a></li>'


def _section(letter: str, section: Section, found: dict[str, Any], about: dict[str, Any]) -> str:
    words = _wording(about)
    heading = (f'<p class="letter">{letter}</p>\n<h2 id="{section.name}-heading">{html.escape(words(section.heading))}'
               "</h2>")
    if "absent" in found:
        return (f'<section id="{section.name}" class="absent" aria-labelledby="{section.name}-heading">\n{heading}\n'
                f"<p>{html.escape(words(found['absent']))}</p>\n</section>")
    cost, alike = COSTS.get(about["cost"]), found.get("alike")
    body = _filled(words(_web(f"{section.name}.html")), {
        "text": html.escape(_set(words(found["text"]))), "alt": html.escape(_set(words(found["alt"]))),
        "alike": f'<p class="finding">{html.escape(_set(words(alike)))}</p>' if alike else "",
        "cost": html.escape(about["cost"]), "losses": _losses(about["cost"], found.get("costs") or ()),
        "g_formula": html.escape(cost.g_formula if cost else ""), "d_formula": html.escape(cost.d_formula if cost else "")})
    return (f'<section id="{section.name}" aria-labelledby="{section.name}-heading">\n{heading}\n{_with_code(body)}\n'
            "</section>")


def _set(text: str) -> str:
    """Numbers in a text as a printer sets them: a minus sign, powers of ten, and no line break before a percent sign."""
    def raised(found: re.Match[str]) -> str:
        return f"{found[1]}\N{MULTIPLICATION SIGN}10{str(int(found[2])).translate(_RAISED)}"

    text = re.sub(r"(\d)e([+-]\d+)", raised, text)
    return re.sub(r"(?<!\S)-(?=\d)", "\N{MINUS SIGN}", text).replace(" %", "\N{NO-BREAK SPACE}%")


def _wording(about: dict[str, Any]) -> Callable[[str], str]:
    """What is done to every text about images: nothing, or it becomes one about points, if the data are in the plane."""
    return _points if len(about["image_shape"]) == 1 else str


def _points(text: str) -> str:
    for pattern, word in _POINTS:
        text = re.sub(pattern, word, text)
    return text


def _filled(template: str, values: dict[str, str]) -> str:
    """The template with {{name}} replaced. A name without a value stays an error, and values are not read again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], template)


def _with_code(text: str) -> str:
    """Replace {{code MODULE NAME}} by the source of a function or class of tinygan, with its file and line."""
    return re.sub(r"\{\{code (\S+) (\S+)\}\}", lambda found: _source(found[1], found[2]), text)


def _losses(cost: str, compared: Sequence[str]) -> str:
    """The code of what the generator minimises in the run, and of the costs that the page compares with it."""
    functions = [COSTS[name].g_loss for name in dict.fromkeys((cost, *compared)) if name in COSTS]
    return "\n".join(map(_listing, dict.fromkeys(functions)))


def _source(module: str, name: str) -> str:
    found: Any = importlib.import_module(f"tinygan.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return _listing(found)


def _listing(function: Any) -> str:
    """The source of a function or class, with its file and line; "" if a program's own has no source, as in a console."""
    try:
        lines, start = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return ""
    module = function.__module__
    file = f"{module.replace('.', '/')}.py" if module.startswith("tinygan.") else Path(inspect.getfile(function)).name
    return (f'<figure class="source"><figcaption>{html.escape(file)}, line {start}</figcaption>'
            f'<pre tabindex="0"><code>{html.escape(textwrap.dedent("".join(lines)))}</code></pre></figure>')


def _web(name: str) -> str:
    return (files("tinygan.teaching") / "web" / name).read_text(encoding="utf-8").strip()
