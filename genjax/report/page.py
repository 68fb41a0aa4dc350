"""The page: style, script and policy, and a section for each run."""

import base64
import hashlib
from collections.abc import Mapping
from xml.etree import ElementTree

from etils import epath

from genjax import files
from genjax.families import FAMILIES
from genjax.report import sections
from genjax.report.elements import tag

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5d6872; --line: #dde1e5; --paper: #fff; --box: #f6f7f8;
  --a: #2467a8; --b: #c2571a; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e4e7ea; --soft: #9aa5af; --line: #353c43;
  --paper: #15191d; --box: #1d2227; --a: #6fb1ee; --b: #f0955a; } }
* { box-sizing: border-box; }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .25rem; letter-spacing: -.01em; }
h2 { font-size: 1.5rem; line-height: 1.25; margin: 3.5rem 0 .25rem; padding-top: 1.5rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 2.25rem 0 .5rem; }
h4 { font-size: .9rem; margin: 1.25rem 0 .25rem; color: var(--soft); font-weight: 600; }
p { margin: .4rem 0; max-width: 44rem; } .soft, figcaption, summary { color: var(--soft); }
h1 + .soft { margin-top: .5rem; }
nav ul { list-style: none; padding: 0; margin: 1rem 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
  a { color: var(--a); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(14rem, 100%), 1fr)); gap: .75rem;
  margin: 1.25rem 0; padding: 0; }
.figures div { background: var(--box); border-radius: .5rem; padding: .8rem 1rem; }
.figures dt { color: var(--soft); font-size: .85rem; } .figures dd { margin: 0; }
.figures dd.value { font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.figures dd.note { font-size: .8rem; color: var(--soft); }
.wide { overflow-x: auto; margin: .5rem 0 1rem; } table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem 1.1rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); font-weight: 400; }
thead th { color: var(--soft); font-size: .8rem; } tbody th { min-width: 10rem; }
  td { min-width: 5.5rem; font-variant-numeric: tabular-nums; }
code, pre { font: .85rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere; } pre { background: var(--box);
  border-radius: .5rem; padding: .75rem 1rem; white-space: pre-wrap; margin: .5rem 0; }
small { display: block; color: var(--soft); font-size: .85em; max-width: 34rem; }
.warning { border-left: 3px solid var(--b); padding-left: .9rem; }
.pictures { columns: 2 24rem; column-gap: 1.5rem; } .pictures figure { break-inside: avoid; margin-bottom: 1.5rem; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .85rem; margin-top: .3rem; }
.pictures img { image-rendering: pixelated; width: 100%; border-radius: .25rem; display: block; }
.pictures img[hidden] { display: none; } input[type=range] { width: 100%; accent-color: var(--a); }
.plots { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(17rem, 100%), 1fr)); gap: 1rem 1.25rem; }
svg { width: 100%; display: block; } svg text { font: 9px system-ui, sans-serif; fill: var(--soft); }
  svg .end { text-anchor: end; }
path { fill: none; } .axis { stroke: var(--line); } .raw { stroke: var(--a); opacity: .25; }
  .training { stroke: var(--a); stroke-width: 1.5; }
path.validation { stroke: var(--b); stroke-width: 1.5; } circle.validation { fill: var(--b); }
.key span { font-weight: 600; } .key .t { color: var(--a); } .key .v { color: var(--b); }
details { margin: .4rem 0; } summary { cursor: pointer; } summary:hover { color: var(--ink); }
@media print { body { max-width: none; padding: 0; } h2 ~ h2 { break-before: page; }
  figure, .figures div { break-inside: avoid; }
  input[type=range] { display: none; } }
"""

SCRIPT = """
for (const figure of document.querySelectorAll("figure.steps")) {
  const images = figure.querySelectorAll("img"), caption = figure.querySelector("figcaption");
  const slider = document.createElement("input");
  Object.assign(slider, {type: "range", min: 0, max: images.length - 1, value: images.length - 1});
  slider.setAttribute("aria-label", "training step");
  slider.addEventListener("input", () => {
    images.forEach((image, i) => { image.hidden = i != slider.value; });
    caption.textContent = images[slider.value].alt;
  });
  caption.before(slider);
}
"""


def _sha256(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = (
    "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
    f"style-src {_sha256(STYLE)}; script-src {_sha256(SCRIPT)}"
)
"""Content security policy: the page has its own style, script and pictures, and loads nothing."""


def write_run(workdir: epath.PathLike, path: epath.PathLike | None = None) -> epath.Path:
    """Writes a page about one run to `path`, by default report.html in its directory; returns the path."""
    with sections.damage(workdir):
        config = files.read_json(files.resolve(workdir) / "config.json")
        title = f"{FAMILIES[config['family']].title} on {config['data']['source']}"
    written = files.resolve(path or files.resolve(workdir) / "report.html")
    write_report(written, title, {title: workdir})
    return written


def write_report(path: epath.PathLike, title: str, runs: Mapping[str, epath.PathLike]) -> None:
    """Writes a page about `runs` (heading -> run directory) to `path`; ValueError for a damaged record of a run.

    A heading that repeats the title is left out.
    """
    policy = tag("meta", http_equiv="Content-Security-Policy", content=POLICY)
    # A policy holds for what comes after it, so it is before style and script.
    head = tag("head", tag("meta", charset="utf-8"), policy,
               tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("title", title), tag("style", STYLE))  # fmt: skip
    body = tag("body", tag("h1", title))
    if len(runs) > 1:
        # Lists, because `extend` hides what goes wrong in a generator.
        body.extend(list(sections.side_by_side({heading: files.resolve(run) for heading, run in runs.items()})))
    for i, (heading, run) in enumerate(runs.items(), 1):
        if heading != title:
            body.append(tag("h2", heading, id=f"run-{i}"))
        with sections.damage(run):
            body.extend(list(sections.of_run(files.resolve(run))))
    body.append(tag("script", SCRIPT))
    page = tag("html", head, body, lang="en")
    content = b"<!doctype html>\n" + ElementTree.tostring(page, encoding="utf-8", method="html")
    files.write_atomically(files.resolve(path), content)
