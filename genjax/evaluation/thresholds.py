"""Where warnings about translations begin: every threshold once, with its reason.

All are choices, checked on healthy runs and on injected faults (experiments/results/health.md, translation.md). During
training, metrics are means over recent batches, and a false alarm disturbs: those thresholds are lax. A finished run
is measured on all its test pairs, without noise: those are strict, and have names of their own.
"""

COLLAPSED = 0.25
"""Training: diversity of translations below this share of that of images of the target domain."""

INVERTED = 0.1
"""Training: mean correlation of luminances beyond this, with the sign opposite to the data's."""

RELATED = 0.3
"""Training: least absolute correlation in the data for its sign to mean anything."""

OUTPLAYED = 0.97
"""Training: accuracy of a discriminator that its generator no longer follows."""

HIDDEN = 0.05
"""Training: rise of the cycle's L1 by one grey level of noise on translations, of a network that hides its input."""

LOW_DIVERSITY = 0.5
"""Finished run: diversity of translations relative to their truths. COLLAPSED is the same ratio, and laxer."""

INVERTED_SHARE = 0.05
"""Finished run: share of images with a correlation below 0. INVERTED bounds a mean, where few images do not show."""

IDLE = 0.25
"""Finished run: L1 from inputs to translations, as a share of that from inputs to truths."""
