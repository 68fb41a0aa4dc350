"""Parts that adversarial families share: networks, adversarial losses, image pool, DiffAugment."""
