"""translate.py as a function."""

import sys

import translate


def run(monkeypatch, workdir, images, out, direction="a2b", *more):
    """What translate.py returns for one path of images, or for a list of them."""
    images = images if isinstance(images, list) else [images]
    arguments = ["--workdir", workdir, "--direction", direction, "--images", *images, "--out", out, *more]
    monkeypatch.setattr(sys, "argv", ["translate.py", *map(str, arguments)])
    return translate.main()
