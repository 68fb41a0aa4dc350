"""The glossary names every metric that a run writes."""

from pathlib import Path

import pytest

from genjax import glossary
from genjax.cut.losses import TERMS as CUT_TERMS
from genjax.cyclegan.losses import TERMS
from genjax.evaluation.picture_sets import METRICS
from genjax.train.rows import read_rows
from genjax.unit.losses import TERMS as UNIT_TERMS


@pytest.fixture(params=["trained", "trained_identity"])
def names(request):
    """Names of all metrics in the rows of a tiny run of each family."""
    rows = read_rows(Path(request.getfixturevalue(request.param).workdir, "metrics.jsonl"))
    return {name.removeprefix("validation/") for row in rows for name in row} - {"step", "fingerprint", "warnings"}


@pytest.mark.slow
def test_explain_knows_all_metrics_of_runs(names):
    assert len(names) > 8 and not [name for name in names if glossary.explain(name) is None]


def test_explain_tells_what_a_metric_is_measured_on():
    assert glossary.title("l1_a2b") == "L1 to the truth, A to B"
    assert glossary.title("d_a_loss") == "loss of discriminator A" and glossary.title("mine") == "mine"
    assert all(glossary.explain(term) for term in (*TERMS, *CUT_TERMS, *UNIT_TERMS, *METRICS))


def test_glossary_sentences_are_short_and_whole():
    for name, term in glossary.GLOSSARY.items():
        assert 1 <= len(term.meaning.split()) <= 25 and not term.meaning.endswith("."), name
