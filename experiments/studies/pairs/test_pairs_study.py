"""The runs, the table and the figure of the study of known pairs."""

import pytest

from studies import figures
from studies.pairs import study


@pytest.mark.parametrize("source", ["icons", "faces-glasses"])
def test_run_of_gives_each_method_its_pairs(source):
    options = study.Options(source=source, workdir="runs/pairs", num_steps=20)
    runs = {
        (method, number): study.run_of(options, (method, number), 0)
        for method in options.methods
        for number in options.numbers
        if study.is_trained(method, number)
    }
    assert len(runs) == 6 + 5 + 1 and len({run.workdir for run in runs.values()}) == 12
    plain, base = runs["cyclegan", "0"], study.BASES[source]()
    assert (plain.data, plain.loss) == (base.data, base.loss)
    assert runs["cyclegan", "64"].data.pairs == f"{source}-pairs:64" and runs["cyclegan", "64"].loss.paired == 10
    alone = runs["pairs-alone", "all"]
    assert alone.data.pairs == f"{source}-pairs" and alone.loss.cycle_a == alone.loss.adversarial_a2b == 0
    pix2pix = runs["pix2pix", "all"]
    assert pix2pix.data.source == f"{source}-pairs" and pix2pix.data.train_pairs and pix2pix.cyclegan.conditional


def test_table_and_figure_show_means_of_runs(tmp_path):
    def result(l1):
        return {"l1_a2b": l1, "l1_b2a": l1 / 2, "l1_copy": 0.25, "digest": "0123456789"}

    found = {("cyclegan", "0"): [result(0.1), result(0.3)], ("pix2pix", "all"): [result(0.05)]}
    text = study.table(found)
    assert "| `cyclegan` | 0 | 0.2000 (0.1000 to 0.3000) | 0.1000 (0.0500 to 0.1500) | `01234567`, `01234567` |" in text
    assert "| copy |  | 0.2500 | 0.2500 |  |" in text
    assert "| `pix2pix` | all | 0.0500 | 0.0250 | `01234567` |" in text
    for name in ("a.svg", "b.svg"):
        figures.write_svg(tmp_path / name, study.figure("icons", found))
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.svg").read_bytes().startswith(b"<?xml")
