"""Brain MRI from undersampled k-space alone: models trained at R = 1, 2, 4, 6, 8, each tested at R = 2, 4, 6, 8.

Source:   Aali et al. 2024 (arXiv 2403.08728) [paper]: multi-coil fastMRI brain, 384 x 320, 20 central lines of 320
          always measured, floor(320 / R) lines in all, further corruption to R + 1; two channels, EDM noise,
          multipliers 1, 1, 1, 1, Adam 2e-4, dropout 0.1, batch 8, gradients clipped at 1.
Command:  python launch.py --config=configs/brain_mri.py --mode=crosstable --config.data.source=fastmri:PATH
          python launch.py --config=configs/brain_mri.py:r4 --config.data.source=fastmri:PATH      (one of the models)
          python launch.py --config=configs/brain_mri.py:tiny --mode=crosstable     (64 x 64 slices of MNI152, embedded)
          python launch.py --config=configs/brain_mri.py:smoke --mode=crosstable    (the pipeline in minutes)
Cost:     `tiny`: 62 minutes on 2 cores with short jobs beside (docs/mri.md: what came out); the others: not measured.

Models: r2 ... r8 see undersampled k-space alone (Ambient Diffusion, loss in k-space); full sees whole images; wavelet4
and wavelet8 take L1-wavelet reconstructions of undersampled k-space for whole images. docs/mri.md has the rest.
"""

from ml_collections import ConfigDict

from configs import default

ACCELERATIONS = (2, 4, 6, 8)
RUNS = ("full", *(f"r{r}" for r in ACCELERATIONS), "wavelet4", "wavelet8")
SIZES = ("", "tiny", "smoke")


def get_config(variant: str = "") -> ConfigDict:
    size, run = ("", variant) if variant in RUNS else tuple([*variant.split("-", 1), ""][:2])
    named = [f"{size}-{run}" if size else run for size in SIZES for run in RUNS]
    default.check_variant(variant, (*named, "tiny", "smoke"))
    config = {"": paper, "tiny": tiny, "smoke": smoke}[size]()
    config.crosstable.runs = tuple(f"{size}-{name}" if size else name for name in RUNS)
    if size == "smoke":
        config.crosstable.runs = ("smoke-full", "smoke-r4", "smoke-wavelet4")
    model(config, run or "r4")
    config.title = f"Brain MRI, {run}" if run else "Brain MRI: trained at one acceleration, tested at another"
    return config


def model(config: ConfigDict, run: str) -> None:
    """What the one view of the config is, and how it is learnt."""
    name = run.rstrip("0123456789")
    acceleration = int(run.removeprefix(name) or 1)
    operator = {"name": "multicoil_fourier", "acceleration": acceleration, "coils": config.data.coils}
    config.views.mri = default.view(operator, 1.0, "ambient" if name == "r" else "naive")
    config.views.mri.delta = 1 / (acceleration + 1)  # leaves as many lines as R + 1 has
    config.views.mri.restored_by = "wavelet" if name == "wavelet" else "pinv"


def paper() -> ConfigDict:
    """The published settings."""
    config = default.get_config()
    config.data.source = "fastmri:data/multicoil_train"
    config.data.image_size = 0  # of fastmri: 384 x 320
    config.data.coils = 8
    config.data.split_by = "slab"
    config.data.gap = 20  # more than the slices of a volume: no volume is in two parts
    config.data.held_out, config.data.reference = 200, 40
    config.data.clean = config.data.tuning = 0
    config.methods = ()
    config.composition.update(gaussian="ppca", rank=16)
    # Not measured on k-space: its lines are unequal, and the central ones are in every measurement.
    config.noise.sigma_data = 0.36
    config.network.update(channels=128, channel_mults=(1, 1, 1, 1), blocks=2, patch=1, dropout=0.1)
    config.train.update(steps=200_000, batch=8, lr=2e-4, warmup=1000, decay="constant", clip=1.0)
    config.train.update(ema_halflife=50_000.0, checkpoint_every=2000)
    config.crosstable.images = 100
    config.sample.method = ""
    return config


def tiny() -> ConfigDict:
    """64 x 64 slices of one average head; four coils."""
    config = paper()
    config.data.source = "mni152:8"
    config.data.image_size = 64
    config.data.coils = 4
    config.data.gap = 64  # 8 slices of 1 mm
    config.data.held_out, config.data.reference = 96, 32
    config.network.update(channels=32, channel_mults=(1, 2, 2), blocks=1, patch=2, dropout=0.1)
    config.train.update(steps=2500, batch=16, lr=1e-3, warmup=100, decay="cosine", checkpoint_every=500)
    config.train.ema_halflife = 5000.0
    config.crosstable.update(images=16, batch=16)
    config.crosstable.posterior.update(draws=3, steps=50)
    config.sample.update(count=16, batch=16)
    return config


def smoke() -> ConfigDict:
    """32 x 32, a few steps: shows the pipeline, not the method."""
    config = tiny()
    config.data.source = "mni152:2"
    config.data.image_size = 32
    config.data.coils = 2
    config.data.gap = 8
    config.data.held_out, config.data.reference = 12, 6
    config.data.limit = 80
    config.composition.rank = 2
    config.network.update(channels=8, channel_mults=(1,))
    config.train.update(steps=4, batch=8, warmup=2, checkpoint_every=2)
    config.bands.count = 4
    config.evaluate.update(resamples=100, batch=8)
    config.crosstable.update(images=5, batch=4, accelerations=(2, 4), shown=2)
    config.crosstable.wavelet.steps = 5
    config.crosstable.posterior.update(draws=2, steps=3)
    config.sample.update(count=4, batch=4, steps=4)
    return config
