"""Parts for adversarial families: networks, adversarial losses, image pool, DiffAugment."""
