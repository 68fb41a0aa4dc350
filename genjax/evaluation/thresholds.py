"""Thresholds of warnings about translations.

All are choices, checked on healthy runs and on injected faults (experiments/results/collapse.md, translation.md).
During training, metrics are of a few images and a false alarm disturbs, so those thresholds are lax. A finished run is
measured on all its test pairs, so those thresholds are strict.
"""

COLLAPSED = 0.25
"""Training: least diversity of translations, relative to images of the target domain."""

ALIKE = 0.01
"""Standard deviation of a target domain's pixels over its images, in [0, 1], below which no diversity can be lost."""

INVERTED = 0.1
"""Training: largest absolute correlation of luminances with a sign opposite to the data's."""

RELATED = 0.3
"""Training: least absolute correlation in the data at which its sign is used."""

OUTPLAYED = 0.97
"""Training: largest accuracy of a discriminator that its generator can follow."""

HIDDEN = 0.05
"""Training: largest rise of the cycle's L1 from one grey level of noise on translations."""

LOW_DIVERSITY = 0.5
"""Finished run: least diversity of translations relative to their truths. COLLAPSED is the lax form of it."""

INVERTED_SHARE = 0.05
"""Finished run: largest share of images with a correlation below 0. INVERTED bounds a mean, which hides few images."""

IDLE = 0.25
"""Finished run: least L1 from inputs to translations, as a share of that from inputs to truths."""
