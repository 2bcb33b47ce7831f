"""One cell of a restoration: one prior, one operator, one method, all the images, in batches of one compiled call."""

import hashlib
import json
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxdiff.evaluation.calibration import credible_interval, posterior_mean, posterior_std
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.priors import Prior, filled_batches, posterior, told_estimate
from jaxdiff.experiment.restore_plan import BASELINE, ESTIMATES, RestorePlan
from jaxdiff.operators import LinearOperator, Measurement, describe
from jaxdiff.sampling import GUIDANCES, restore
from jaxdiff.sampling.guidance.step import white_noise
from jaxdiff.training.sharding import batch_sharding, make_mesh


class Cell(NamedTuple):
    """What is asked: `prior` None for the baseline that needs none."""

    prior: str | None
    operator: str
    method: str


@flax.struct.dataclass
class Restored:
    """Restored images (B, H, W, C): the mean of the draws, or the estimate, and what is known besides.

    Attributes:
        mean: the restored image.
        std: standard deviation over draws; None for estimates, and so are all that follow.
        lower, upper: bounds of the posterior's interval in every number.
        draw: the first draw.
    """

    mean: Any
    std: Any = None
    lower: Any = None
    upper: Any = None
    draw: Any = None


def image_and_draw_keys(seed: int, rows: np.ndarray, draws: int) -> jax.Array:
    """(draws, B) keys: those of an image depend on the seed and its number alone. No key of `data.measure` is among
    them."""
    root = jax.random.fold_in(jax.random.key(seed), zlib.crc32(b"restore"))
    of_image = jax.vmap(lambda row: jax.random.fold_in(root, row))(jnp.asarray(rows, jnp.uint32))
    return jax.vmap(lambda s: jax.vmap(lambda key: jax.random.fold_in(key, s))(of_image))(jnp.arange(draws))


def program(prior: Prior | None, method: str, asked: RestorePlan) -> Callable[..., Restored]:
    """(arrays, operator, y, sigma_y, keys (S + 2, B)) -> Restored, to be compiled; the last two keys are A~'s."""
    settings = dict(asked.settings.get(method, {}))

    def baseline(arrays, operator, y, sigma_y, keys):
        return Restored(operator.pinv(operator.restrict(y)))

    def estimate(arrays, operator, y, sigma_y, keys):
        if prior.told is not None:
            white = white_noise(keys[0], operator.in_shape)
            return Restored(
                told_estimate(prior, arrays, operator, y, sigma_y, white, asked.sigmas[method][-2])
            )
        denoiser = partial(prior.denoise, arrays)
        return Restored(
            restore(method, denoiser, operator, y, sigma_y, keys[0], asked.sigmas[method], **settings)
        )

    def drawn(arrays, operator, y, sigma_y, keys):
        more = {"sampler": asked.sampler} if GUIDANCES[method].gives == "denoiser" else {}
        told_keys = (keys[-2], keys[-1])
        draws = posterior(
            prior,
            method,
            operator,
            y,
            sigma_y,
            keys[:-2],
            asked.sigmas[method],
            arrays,
            told_keys,
            **settings,
            **more,
        )
        bounds = credible_interval(draws, asked.level)
        return Restored(posterior_mean(draws), posterior_std(draws), bounds.lower, bounds.upper, draws[0])

    return baseline if method == BASELINE else estimate if method in ESTIMATES else drawn


def stated_level(asked: RestorePlan) -> float:
    """The probability with which the interval of so many draws is stated to hold the truth."""
    return credible_interval(jnp.zeros((asked.draws, 1)), asked.level).stated


def refusal(
    prior: Prior | None, method: str, operator: LinearOperator, measured: Measurement, asked: RestorePlan
) -> str | None:
    """Why a method cannot do this, or None; nothing is compiled, and the network is not looked at."""
    if method == BASELINE:
        return None
    if prior.told is not None:
        if method not in ("ambient_dps", "one_step"):
            return f"{prior.name} is told what it sees, '{method}' shows it whole images; use ambient_dps or one_step"
        if method == "one_step" and operator.name != prior.family(prior.arrays).name:
            known = describe(prior.family(prior.arrays))
            return f"{prior.name} was trained on {known} and knows nothing of {describe(operator)}; use ambient_dps"
        if asked.overlap and operator.in_shape != prior.family(prior.arrays).in_shape:
            return f"{prior.name} is told what it sees, and has no tiles"
    elif method == "ambient_dps":
        return "'ambient_dps' is for priors that are told what they see: view/NAME of the method 'ambient'"
    likelihood = asked.settings[method].get("norm") == "likelihood"
    if likelihood and not np.all(np.asarray(measured.sigma_y) > 0):
        return f"{method}: norm='likelihood' divides by sigma_y^2, and here sigma_y is 0; use 'plain' or 'squared'"
    blank = lambda arrays, x, *_: x  # noqa: E731
    stand_in = prior._replace(denoise=blank) if prior.told is None else prior._replace(told=blank)
    part = next(filled_batches(measured, min(asked.batch, len(measured.y))))[1]
    keys = image_and_draw_keys(0, np.arange(len(part.y)), asked.draws + 2)
    try:
        jax.eval_shape(
            program(stand_in, method, asked),
            prior.arrays,
            operator.with_params(part.params),
            part.y,
            part.sigma_y,
            keys,
        )
    except ValueError as error:
        return str(error)
    return None


def arrays_digest(prior: Prior | None) -> str:
    """Of a prior's parameters: equal for equal ones."""
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(prior.arrays if prior else ()):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]


def request(cell: Cell, operator: LinearOperator, digest: str, of_prior: str, asked: RestorePlan) -> str:
    """All that a cell's images depend on, as text: a cell with the same request is not computed again."""
    grid = np.asarray(asked.sigmas.get(cell.method, ())).tolist()
    settings = asked.settings.get(cell.method, {})
    many = [asked.draws, asked.level, asked.sampler] if cell.method not in ESTIMATES else []
    known = [cell, describe(operator), operator.in_shape, digest, of_prior, settings, grid, many]
    return json.dumps([*known, asked.seed, asked.batch, asked.overlap, jax.default_backend()], sort_keys=True)


def restore_all(
    prior: Prior | None,
    method: str,
    operator: LinearOperator,
    measured: Measurement,
    rows: np.ndarray,
    asked: RestorePlan,
    progress: Callable[[int], None],
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """All the images, by attribute of `Restored`, and what it cost: seconds, compile_seconds, memory_bytes."""
    count = len(measured.y)
    batch = min(asked.batch, count)
    call, parts, cost, done = None, [], {"seconds": 0.0}, 0
    place = placing(batch)
    arrays, operator = place(prior.arrays if prior else ()), place(operator)
    for positions, part in filled_batches(measured, batch):
        keys = place(image_and_draw_keys(asked.seed, rows[positions], asked.draws + 2), 1)
        part = place(part, 0)
        given = (arrays, operator.with_params(part.params), part.y, part.sigma_y, keys)
        if call is None:
            began = time.monotonic()
            call = jax.jit(program(prior, method, asked)).lower(*given).compile()
            cost["compile_seconds"] = time.monotonic() - began
            cost["memory_bytes"] = float(compiled_bytes(call))
        given = jax.block_until_ready(given)
        began = time.monotonic()
        found = jax.block_until_ready(call(*given))
        cost["seconds"] += time.monotonic() - began
        kept = min(batch, count - done)
        parts.append({k: np.asarray(v)[:kept] for k, v in vars(found).items() if v is not None})
        done += kept
        progress(kept)
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if peak is not None:
        cost["device_peak_bytes"] = float(peak)
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}, cost


def placing(batch: int) -> Callable[..., Any]:
    """(tree, batch axis or None) -> the tree on this process's devices: its batch split over them where their number
    divides it, or all of it on each; on the first alone where the batch cannot be split."""
    mesh = make_mesh(jax.local_devices())
    if mesh.size == 1 or batch % mesh.size:
        return lambda tree, axis=None: jax.device_put(tree)
    whole = NamedSharding(mesh, PartitionSpec())
    return lambda tree, axis=None: jax.device_put(tree, whole if axis is None else batch_sharding(mesh, axis))


def compiled_bytes(compiled: Any) -> int:
    """Memory that one call needs: arguments, results and what it keeps in between."""
    found = compiled.memory_analysis()
    if found is None:
        return 0
    own = found.temp_size_in_bytes + found.output_size_in_bytes + found.argument_size_in_bytes
    return own - found.alias_size_in_bytes


def read_cell(path: Path, asked_for: str) -> dict[str, np.ndarray] | None:
    """What `write_cell` kept for the same request, or None."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return dict(stored) if str(stored["request"]) == asked_for else None


def write_cell(path: Path, asked_for: str, arrays: dict[str, np.ndarray], cost: dict[str, float]) -> dict:
    """Keep a cell: its images, what they cost, and the request."""
    kept = {**arrays, **{f"cost/{key}": np.asarray(value) for key, value in cost.items()}}
    kept["request"] = np.asarray(asked_for)
    write_atomically(path, lambda temporary: np.savez_compressed(temporary, **kept))
    return kept
