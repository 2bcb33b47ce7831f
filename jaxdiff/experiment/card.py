"""README.md of a distilled model: what it is, what it saw, what was measured, how it is used."""

import datetime
import re
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from jaxdiff import __version__
from jaxdiff.experiment.stages import Run
from jaxdiff.export import Model
from jaxdiff.operators import describe

CARD = """# {{ title }}: {{ method }}, distilled

A denoiser D(x, sigma) of images {{ shape }} (height, width, channels) in [-1, 1], for noise levels from {{ low }}
to {{ high }}: one {{ network }} with {{ cost.student.parameters }} parameters that imitates the model `{{ method }}`
(networks of {{ cost.teacher.parameters }} parameters). Made with jaxdiff {{ version }} on {{ date }}.

![samples](samples.png)

## Use

```python
import jaxdiff

model = jaxdiff.load("DIR")  # this directory
denoised = model.denoiser(x, sigma)  # x (B, {{ shape | join(', ') }}), sigma (B,)
```

```bash
python -m jaxdiff.sample DIR --count 64 --out grid.png
python -m jaxdiff.sample DIR --count 1000 --npz images.npz
```

## Data

- source: `{{ source }}`; {{ counts.get("clean", 0) }} clean images to train on, {{ counts.get("tuning", 0) }} to tune
{%- for name, operator, learnt, count in views %}
- view `{{ name }}`: {{ operator }}; {{ count }} measurements, learnt by `{{ learnt }}`
{%- endfor %}

## How it was trained

The model `{{ method }}` was trained first. Then this network was asked to give the same answers, on noisy versions of
{{ stage.teacher_samples }} samples of that model and of the clean training images: {{ stage.images_seen }} images in
{{ stage.steps }} steps (kept: step {{ stage.best_step }}, by the tuning images), starting from `{{ stage.start }}`.
Seed {{ seed }}.

    {{ command }}

## What was measured

Nats per image over a Gaussian denoiser, on {{ images }} held-out images that neither trained nor tuned anything, for
sigma from {{ first }} to {{ last }}; {{ level }} % intervals by bootstrap over the images.

| | nats | interval | parameters | ms per image |
|---|---|---|---|---|
| {{ method }} | {{ nats.teacher }} | {{ cost.teacher.parameters }} | {{ cost.teacher.time }} |
| this model | {{ nats.student }} | {{ cost.student.parameters }} | {{ cost.student.time }} |
| difference, paired | {{ nats.difference }} | | |

Share of the nats lost: {{ lost }}. Times on {{ device }}, in batches of 64.

## Licence

{{ licence }}
"""


# From the slash (or ~/) of a value, such as in --workdir=/a/b, idx:/a/b or ('/a', '/b'), to its end.
ABSOLUTE = re.compile(r"""(?:(?<=[=:'"(,\s])|^)~?/(?!/)[^'",)]*""")


def portable(value: str) -> str:
    """`value` without places that only this machine has: absolute paths relative to the current directory where they
    lie below it, else their last part alone."""

    def shortened(match: re.Match) -> str:
        path, here = Path(match[0]).expanduser(), Path.cwd()
        return str(path.relative_to(here)) if path.is_relative_to(here) else path.name

    return ABSOLUTE.sub(shortened, value)


def portable_command(command: str) -> str:
    """A command line by which somebody else can do the same: without the workdir, and with portable paths."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        if word in ("--workdir", "-workdir"):
            next(words, None)
        elif not word.startswith(("--workdir=", "-workdir=")):
            kept.append(portable(word))
    return shlex.join(kept)


def _interval(entry: dict[str, float], form: str = ".1f") -> str:
    return f"{entry['mean']:{form}} | {entry['low']:{form}} to {entry['high']:{form}}"


def write_card(directory: Path, run: Run, results: dict[str, Any], model: Model) -> None:
    """Write README.md into `directory`."""
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(CARD)
    held_out, share, counts = results["held_out"], results["held_out"]["share_lost"], run.data.counts
    text = template.render(
        **{key: results[key] for key in ("title", "method", "seed", "stage", "device")},
        command=portable_command(results["command"]),
        shape=list(model.image_shape),
        low=f"{model.noise_range[0]:g}",
        high=f"{model.noise_range[1]:g}",
        network=model.config["network"]["name"],
        version=__version__,
        date=datetime.date.today().isoformat(),
        source=portable(run.config.data.source),
        counts=counts,
        views=[(v.name, describe(v.operator), v.method, counts[f"view/{v.name}"]) for v in run.plan.views],
        images=held_out["images"],
        first=f"{held_out['bands']['sigma'][0]:g}",
        last=f"{held_out['bands']['sigma'][-1]:g}",
        level=f"{100 * run.config.evaluate.level:g}",
        nats={
            "teacher": _interval(held_out["teacher"]),
            "student": _interval(held_out["student"]),
            "difference": _interval(held_out["student_minus_teacher"], ".2f"),
        },
        cost={
            who: {
                "parameters": f"{cost['parameters']:,}",
                "time": f"{1e3 * cost['seconds_per_image']:.3f}",
            }
            for who, cost in results["cost"].items()
        },
        lost="nothing to lose" if share is None else f"{100 * max(share, 0.0):.2f} %",
        licence=run.config.distill.licence or "Not stated (config.distill.licence).",
    )
    (directory / "README.md").write_text(text)
