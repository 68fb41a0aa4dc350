"""Glossary of all metrics: names in words, units, meanings. Reports, tables and pages read it; there is no other.

A metric's name may end in what it is measured on, such as `l1_a2b` or `kl_group_2`: `explain` takes such names too.
"""

from typing import Literal, NamedTuple

Subject = Literal["likelihood", "quality", "pairs", "translation", "losses", "discriminators", "optimiser", "chains"]


class Term(NamedTuple):
    """Explanation of a metric."""

    subject: Subject
    title: str
    unit: str
    meaning: str
    better: Literal["lower", "higher"] | None = None


NATS, UNIT, SIGNED = "nats per image", "pixels in [0, 1]", "pixels in [-1, 1]"


def _of(subject: Subject, terms: dict[str, tuple]) -> dict[str, Term]:
    return {name: Term(subject, *term) for name, term in terms.items()}


GLOSSARY: dict[str, Term] = {
    **_of("likelihood", {
        "negative_elbo": ("negative ELBO", NATS, "distortion + rate, a bound on -log p(x)", "lower"),
        "elbo": ("ELBO", NATS, "lower bound on log p(x): the negative ELBO with the other sign", "higher"),
        "nll": ("negative log-likelihood", NATS,
                "-log p(x), estimated with the true value at or below it in expectation", "lower"),
        "nll_draw_se": ("error from the noise", NATS, "standard error of nll if its noise were drawn anew"),
        "nll_image_se": ("error from the images", NATS, "standard error of nll over other images"),
        "nll_below": ("lower bound on nll", NATS, "-log p(x) of images drawn from the model, bounded from below"),
        "sandwich_gap": ("sandwich gap", NATS,
                         "nll less nll_below: how far annealed importance sampling can be off", "lower"),
        "mutual_information": ("mutual information", NATS,
                               "what latents tell images apart by; at most the log of the number of images"),
        "active_units": ("active units", "latents",
                         "latents whose mean varies over images, by more than 0.01; none after a collapse"),
        "kl_group": ("KL of group", NATS, "what the latents of one group tell about the image, of those of the rate"),
        "bits_per_dim": ("bits per dimension", "bits",
                         "the negative ELBO in bits, for each pixel and channel", "lower"),
        "distortion": ("distortion", NATS, "-log p(x|z): how badly the reconstruction fits", "lower"),
        "rate": ("rate", NATS, "KL(q(z|x) || p(z)): what the latents tell about the image"),
        "variance": ("variance of a pixel", "", "mean squared error of a batch, which the likelihood takes"),
        "elbo_draw_se": ("error from the noise", NATS, "standard error of the ELBO if its noise were drawn anew"),
    }),
    **_of("quality", {
        "kid": ("KID", "", "kernel distance of generated from real images, without bias; about 0 if alike", "lower"),
        "frechet": ("Frechet distance", "",
                    "distance of means and covariances of features; FID with the standard Inception only", "lower"),
        "mind": ("MIND", "", "mean Wasserstein distance of features along random lines", "lower"),
        "precision": ("precision", "share", "generated images that lie among the real ones", "higher"),
        "recall": ("recall", "share", "real images that lie among the generated ones", "higher"),
        "density": ("density", "",
                    "real neighbourhoods around a generated image, relative to those around a real one", "higher"),
        "coverage": ("coverage", "share", "real images with a generated one in their neighbourhood", "higher"),
        "authenticity": ("authenticity", "share",
                         "generated images that are no near copies of a training image", "higher"),
        "train_test_gap": ("train-test gap", "-1 to 1",
                           "how much closer to training images generated ones are than test images; 1 if copied"),
        "lpips_diversity": ("LPIPS diversity", "",
                            "mean perceptual distance of two generated images; compare with real ones"),
        "diversity": ("diversity", "",
                      "spread of translations, divided by that of the target's images; 0 in mode collapse", "higher"),
    }),
    **_of("pairs", {
        "l1": ("L1 to the truth", UNIT, "mean absolute difference from the true image", "lower"),
        "iou": ("IoU of ink", "share", "intersection over union of the dark pixels with those of the truth", "higher"),
        "psnr": ("PSNR", "dB", "-10 log10 of the squared difference from the truth", "higher"),
        "ssim": ("SSIM", "", "structural similarity to the truth: 1 for equal images", "higher"),
        "lpips": ("LPIPS", "", "perceptual distance from the truth: 0 for equal images", "lower"),
    }),
    **_of("translation", {
        "cycle": ("cycle", "pixels",
                  "L1 from an image to its translation there and back (training: pixels in [-1, 1])", "lower"),
        "probe": ("probe", UNIT,
                  "the cycle with one grey level of noise on the translation; it shows hidden images", "lower"),
        "change": ("change", UNIT, "L1 from an image to its translation"),
        "correlation": ("correlation", "-1 to 1", "correlation of the luminances of an image and its translation"),
        "inverted": ("inverted", "share", "images whose light and dark are swapped"),
        "lpips_content": ("LPIPS to the input", "",
                          "perceptual distance of a translation from its image: what is kept is near"),
        "flicker": ("flicker", UNIT,
                    "root mean square change between frames of a video, beside what their motion explains", "lower"),
    }),
    **_of("losses", {
        "loss": ("loss", NATS, "what training minimises: distortion + beta * rate, or as --vae.objective says"),
        "g_loss": ("generators' loss", "", "weighted sum of the terms that the generators minimise"),
        "d_a_loss": ("loss of discriminator A", "",
                     "half the sum of its losses on real and translated images, with penalties"),
        "d_b_loss": ("loss of discriminator B", "",
                     "half the sum of its losses on real and translated images, with penalties"),
        "identity": ("identity", SIGNED, "L1 from an image of the target domain to its translation"),
        "adversarial": ("adversarial", "", "how real a discriminator finds the translations"),
        "nce": ("PatchNCE", "nats",
                "how badly patches of a translation find their own among those of its image; log n by chance"),
        "affine": ("affine consistency", SIGNED, "L1 from the translation of a turned image to the turned translation"),
        "semantic": ("semantic", "nats", "cross-entropy of a translation's class against that of its image"),
        "reconstruction": ("reconstruction", SIGNED, "L1 from an image to its reconstruction from its noisy latent"),
        "kl": ("KL", "nats per number of the latent", "KL of an image's encoding from N(0, I)"),
        "cycle_kl": ("KL of the cycle", "nats per number of the latent",
                     "KL of the encoding of an image's translation from N(0, I)"),
        "paired": ("known pairs", SIGNED, "L1 from the translations of known pairs to their truths, both directions"),
        "perceptual": ("perceptual loss", "", "LPIPS from an image to the mean of p(x|z)"),
        "perceptual_cycle": ("perceptual cycle", "",
                             "LPIPS from images to their translations there and back, both directions"),
        "perceptual_identity": ("perceptual identity", "",
                                "LPIPS from images of the target domains to their translations, both directions"),
        "perceptual_reconstruction": ("perceptual reconstruction", "",
                                      "LPIPS from images to their reconstructions, both domains"),
        "keep": ("keep", SIGNED, "L1 of what translations change where they must not, both directions"),
    }),
    **_of("discriminators", {
        "accuracy": ("accuracy", "share", "images that a discriminator is right about: 0.5 by chance"),
        "gap": ("gap", "", "mean logit of a discriminator on real images, less that on translated ones"),
    }),
    **_of("optimiser", {
        "beta": ("beta", "", "weight of the rate in the loss"),
        "capacity": ("capacity", NATS, "the rate that the loss asks for"),
        "learning_rate": ("learning rate", "", "learning rate of Adam"),
        "skipped": ("skipped steps", "steps", "steps so far that were not finite, and so changed nothing"),
    }),
    **_of("chains", {
        "health": ("health", "0 to 1", "how far to trust restorations; each method has its own measure", "higher"),
        "r_hat": ("R-hat", "", "how far chains are from agreeing on the latent that is worst: 1 if they do", "lower"),
        "effective_sample_size": ("effective sample size", "draws",
                                  "independent draws that tell as much as the steps of the chains", "higher"),
        "acceptance_rate": ("acceptance rate", "share", "mean chance that a chain accepts a proposal"),
    }),
}  # fmt: skip
"""Terms by name, or by the beginning of names that tell what they are measured on."""

PLACES = {
    "_a2b": "A to B", "_b2a": "B to A", "_d_a": "discriminator A", "_d_b": "discriminator B", "_a": "A", "_b": "B",
    "_copy": "of the input itself", "_inputs": "of the inputs", "_samples": "of samples", "_worst": "the worst image",
    "_samples_gaussian_mixture": "of samples from a Gaussian mixture",
    "_samples_vampprior": "of samples from a VampPrior",
    "_samples_vampprior_data": "of samples from a VampPrior of training images",
}  # fmt: skip
"""Endings of names that tell what a metric is measured on."""


ERROR = "_image_se"
"""Ending of the name of a metric's standard error over other images."""


def explain(name: str) -> Term | None:
    """Returns the term of a metric, its title naming what is measured, or None for an unknown name."""
    if name in GLOSSARY:
        return GLOSSARY[name]
    if name.endswith(ERROR) and (term := explain(name.removesuffix(ERROR))):
        meaning = f"standard error of {term.title} over other images"
        return Term(term.subject, f"{term.title}: error from the images", term.unit, meaning)
    of, _, number = name.rpartition("_")
    if number.isdecimal() and (term := GLOSSARY.get(of)):
        return term._replace(title=f"{term.title} {number}")
    for ending, words in PLACES.items():
        if name.endswith(ending) and (term := GLOSSARY.get(name.removesuffix(ending))):
            return term._replace(title=f"{term.title}, {words}")
    return None


def words(name: str) -> str:
    """Returns a name of another kind, such as that of a warning, in words: collapsed_a2b is collapsed A to B."""
    ending = next((ending for ending in PLACES if name.endswith(ending)), "")
    return " ".join([name.removesuffix(ending).replace("_", " "), *filter(None, [PLACES.get(ending)])])


def title(name: str) -> str:
    """Returns the name of a metric in words; the name itself if it is not here."""
    term = explain(name)
    return name if term is None else term.title
