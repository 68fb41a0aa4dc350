"""Glossary of all metrics: names in words, units, meanings. Reports, tables and pages read it; there is no other.

A metric's name may end in what it is measured on, such as `l1_a2b`: `explain` takes such names too.
"""

from typing import Literal, NamedTuple

Subject = Literal["likelihood", "quality", "pairs", "translation", "losses", "discriminators", "optimiser"]


class Term(NamedTuple):
    """Explanation of a metric."""

    subject: Subject
    title: str
    unit: str
    meaning: str
    better: Literal["lower", "higher"] | None = None


GLOSSARY: dict[str, Term] = {
    # Likelihoods of a VAE.
    "negative_elbo": Term("likelihood", "negative ELBO", "nats per image", "distortion + rate, a bound on -log p(x)", "lower"),
    "elbo": Term("likelihood", "ELBO", "nats per image", "lower bound on log p(x): the negative ELBO with the other sign", "higher"),
    "bits_per_dim": Term("likelihood", "bits per dimension", "bits", "the negative ELBO in bits, for each pixel and channel", "lower"),
    "distortion": Term("likelihood", "distortion", "nats per image", "-log p(x|z): how badly the reconstruction fits", "lower"),
    "rate": Term("likelihood", "rate", "nats per image", "KL(q(z|x) || p(z)): what the latents tell about the image"),
    "elbo_draw_se": Term("likelihood", "error from the noise", "nats per image", "standard error of the ELBO if its noise were drawn anew"),
    "elbo_image_se": Term("likelihood", "error from the images", "nats per image", "standard error of the ELBO over other images"),
    # Sets of generated pictures, by features of a network.
    "kid": Term("quality", "KID", "", "kernel distance of generated from real images, without bias: 0 if both are alike", "lower"),
    "frechet": Term("quality", "Frechet distance", "", "distance of means and covariances of features; FID only with the standard Inception", "lower"),
    "mind": Term("quality", "MIND", "", "mean Wasserstein distance of features along random lines", "lower"),
    "precision": Term("quality", "precision", "share", "generated images that lie among the real ones", "higher"),
    "recall": Term("quality", "recall", "share", "real images that lie among the generated ones", "higher"),
    "density": Term("quality", "density", "", "real neighbourhoods around a generated image, by their number in a real set", "higher"),
    "coverage": Term("quality", "coverage", "share", "real images with a generated one in their neighbourhood", "higher"),
    "authenticity": Term("quality", "authenticity", "share", "generated images that are no near copies of a training image", "higher"),
    "train_test_gap": Term("quality", "train-test gap", "-1 to 1", "how much closer to training images generated images are than test images: 1 if copied"),
    "lpips_diversity": Term("quality", "LPIPS diversity", "", "mean perceptual distance of two generated images; compare it with that of real ones"),
    "diversity": Term("quality", "diversity", "", "spread of translations, divided by that of the target's images: 0 if all are alike, as in mode collapse", "higher"),
    # Pairs of a translation and its truth.
    "l1": Term("pairs", "L1 to the truth", "pixels in [0, 1]", "mean absolute difference from the true image", "lower"),
    "iou": Term("pairs", "IoU of ink", "share", "intersection over union of the dark pixels with those of the truth", "higher"),
    "psnr": Term("pairs", "PSNR", "dB", "-10 log10 of the squared difference from the truth", "higher"),
    "ssim": Term("pairs", "SSIM", "", "structural similarity to the truth: 1 for equal images", "higher"),
    "lpips": Term("pairs", "LPIPS", "", "perceptual distance from the truth: 0 for equal images", "lower"),
    # Translations beside their inputs.
    "cycle": Term("translation", "cycle", "pixels", "L1 from an image to its translation there and back; training rows take pixels in [-1, 1], evaluations in [0, 1]", "lower"),
    "probe": Term("translation", "probe", "pixels in [0, 1]", "the cycle with one grey level of noise on the translation: far above it if the image hides in noise", "lower"),
    "change": Term("translation", "change", "pixels in [0, 1]", "L1 from an image to its translation"),
    "correlation": Term("translation", "correlation", "-1 to 1", "correlation of the luminances of an image and its translation"),
    "inverted": Term("translation", "inverted", "share", "images whose light and dark are swapped"),
    "lpips_content": Term("translation", "LPIPS to the input", "", "perceptual distance of a translation from its image: what is kept is near"),
    # Losses of a training step.
    "loss": Term("losses", "loss", "nats per image", "distortion + beta * rate: what training minimises"),
    "g_loss": Term("losses", "generators' loss", "", "weighted sum of the terms that the generators minimise"),
    "d_a_loss": Term("losses", "loss of discriminator A", "", "half the sum of its losses on real and translated images and of its penalties"),
    "d_b_loss": Term("losses", "loss of discriminator B", "", "half the sum of its losses on real and translated images and of its penalties"),
    "identity": Term("losses", "identity", "pixels in [-1, 1]", "L1 from an image of the target domain to its translation"),
    "adversarial": Term("losses", "adversarial", "", "how real a discriminator finds the translations"),
    "affine": Term("losses", "affine consistency", "pixels in [-1, 1]", "L1 from the translation of a turned image to the turned translation"),
    "semantic": Term("losses", "semantic", "nats", "cross-entropy of the class of a translation against that of its image"),
    # Discriminators.
    "accuracy": Term("discriminators", "accuracy", "share", "images that a discriminator is right about: 0.5 by chance"),
    "gap": Term("discriminators", "gap", "", "mean logit of a discriminator on real images, less that on translated ones"),
    # Optimiser.
    "beta": Term("optimiser", "beta", "", "weight of the rate in the loss"),
    "learning_rate": Term("optimiser", "learning rate", "", "learning rate of Adam"),
    "skipped": Term("optimiser", "skipped steps", "steps", "steps so far that were not finite, and so changed nothing"),
}  # fmt: skip
"""Terms by name, or by the beginning of names that tell what they are measured on."""

PLACES = {
    "_a2b": "A to B", "_b2a": "B to A", "_d_a": "discriminator A", "_d_b": "discriminator B", "_a": "A", "_b": "B",
    "_copy": "of the input itself", "_samples": "of samples",
}  # fmt: skip
"""Endings of names that tell what a metric is measured on."""


def explain(name: str) -> Term | None:
    """Returns the term of a metric, and what it is measured on in its title; None for a name that is not here."""
    if name in GLOSSARY:
        return GLOSSARY[name]
    for ending, words in PLACES.items():
        if name.endswith(ending) and (term := GLOSSARY.get(name.removesuffix(ending))):
            return term._replace(title=f"{term.title}, {words}")
    return None


def title(name: str) -> str:
    """Returns the name of a metric in words; the name itself if it is not here."""
    term = explain(name)
    return name if term is None else term.title
