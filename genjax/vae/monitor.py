"""Warnings of posterior collapse: at the start of a training from the data, and from its evaluations.

The same rows give the same warnings, also in a resumed run; experiments/README.md lists the warnings.
"""

from collections.abc import Sequence

from genjax.data.splits import Splits
from genjax.task import Monitor, Row
from genjax.vae import collapse
from genjax.vae.config import VaeRun
from genjax.vae.model import MakeModel, from_config

FIRST_STEP, FIRST_SHARE = 100, 0.1
"""First step, and share of the training, whose evaluations are used: many latents begin to be used a little later."""

NO_NATS = 0.1
"""KL in nats per image below which a group, or all latents, say nothing."""


def make_monitor(config: VaeRun, splits: Splits, make_model: MakeModel = from_config) -> Monitor:
    """Makes the monitor of a run, and logs at once if the data and the likelihood let expect a collapse."""
    collapse.warn_of_collapse(config, splits, make_model(config).latent_dim)
    return lambda recent, evaluation: find_warnings(config, recent, evaluation)


def find_warnings(config: VaeRun, rows: Sequence[Row], validated: Row) -> dict[str, str]:
    """Returns warnings by name from the latest evaluation row, `validated`; training rows say nothing here."""
    rate, active = (validated.get(f"validation/{name}") for name in ("rate", "active_units"))
    first = max(FIRST_STEP, FIRST_SHARE * config.train.num_steps)
    if validated.get("step", 0) < first or rate is None or active is None:
        return {}
    groups = {name: value for name, value in validated.items() if name.startswith("validation/kl_group_")}
    idle = [name.rpartition("_")[2] for name, nats in groups.items() if nats is not None and nats < NO_NATS]
    # Where all groups are idle, one warning says so of the whole.
    if active == 0 or rate < NO_NATS or 0 < len(groups) == len(idle):
        sentence = (
            f"The posterior has collapsed: {active:.0f} latents are active and the rate is {rate:.2f} nats, so "
            f"reconstructions hardly depend on their images. Try {_remedies(config)}, in another --workdir."
        )
        return {"collapsed": sentence}
    if not idle:
        return {}
    which = f"group {idle[0]}" if len(idle) == 1 else f"each of the groups {', '.join(idle)}"
    sentence = (
        f"Of the latents, {which} carries less than {NO_NATS:g} nats of {rate:.2f}: it has collapsed to its prior. Try "
        f"{_remedies(config)}, in another --workdir, or fewer --vae.groups."
    )
    return {"idle_groups": sentence}


def _remedies(config: VaeRun) -> str:
    """Names the flags that work against collapse and are not in use yet."""
    vae = config.vae
    remedies = [f"a --vae.beta below {vae.beta:g}"] if vae.beta > 1 else []
    remedies += ["a smaller --vae.sigma"] if vae.likelihood == "gaussian" else []
    if vae.objective != "elbo":
        return " or ".join([*remedies, "--vae.objective elbo with --vae.free-bits 2"])
    remedies += ["--vae.beta-warmup 0.3"] if vae.beta_warmup == 0 and vae.beta > 0 else []
    remedies += [f"--vae.free-bits {max(2.0, 2 * vae.free_bits):g}"]
    return ", ".join(remedies[:-1]) + " or " * (len(remedies) > 1) + remedies[-1]
