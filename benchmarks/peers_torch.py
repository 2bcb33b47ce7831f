"""The peers' half of `peers.py`: U-Nets of diffusers and azula, trained and sampled in PyTorch as jaxdiff does.

EDM's preconditioning, loss and Heun's sampler are written out here once for both (Karras et al. 2022, equations 2 and
7, algorithm 1), so that what is compared is the network, its gradient and the optimiser's step. Of what PyTorch has,
the faster way is taken: fused Adam, `_foreach` for the moving average. The order of the channels in memory is the
caller's.
"""

from collections.abc import Callable
from functools import partial

import torch
from timing import Work, images
from torch.utils.flop_counter import FlopCounterMode

from jaxdiff.diffusion.noise import karras_schedule

SIGMA_DATA, P_MEAN, P_STD = 0.5, -1.2, 1.2
MODULATION = 128


class Azula(torch.nn.Module):
    """azula's U-Net with an embedding of the noise level: (x, c_noise) -> F."""

    def __init__(self, channels: int):
        from azula.nn.unet import UNet

        super().__init__()
        self.net = UNet(
            channels, channels, hid_channels=(32, 64, 64), hid_blocks=(3, 3, 3), mod_features=MODULATION
        )
        self.register_buffer("frequencies", torch.logspace(-1, 1, MODULATION // 2))

    def forward(self, x, c_noise):
        """x (B, C, H, W), c_noise (B,)."""
        angles = c_noise[:, None] * self.frequencies
        return self.net(x, torch.cat([torch.cos(angles), torch.sin(angles)], dim=1))


class Diffusers(torch.nn.Module):
    """diffusers' UNet2DModel: (x, c_noise) -> F."""

    def __init__(self, shape: tuple[int, int, int]):
        from diffusers import UNet2DModel

        super().__init__()
        self.net = UNet2DModel(
            sample_size=shape[0],
            in_channels=shape[2],
            out_channels=shape[2],
            block_out_channels=(32, 64, 64),
            layers_per_block=2,
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
        )

    def forward(self, x, c_noise):
        """x (B, C, H, W), c_noise (B,)."""
        return self.net(x, c_noise, return_dict=False)[0]


def denoise(network: torch.nn.Module, x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """D = c_skip x + c_out F(c_in x, ln sigma / 4)."""
    s = sigma.reshape(-1, 1, 1, 1)
    variance = s**2 + SIGMA_DATA**2
    raw = network(x * variance.rsqrt(), sigma.log() / 4)
    return SIGMA_DATA**2 / variance * x + s * SIGMA_DATA * variance.rsqrt() * raw


def training_step(network, optimizer, average: list[torch.Tensor], decay: float, y: torch.Tensor) -> None:
    """EDM's loss, its gradient, Adam, the moving average."""
    sigma = torch.exp(P_MEAN + P_STD * torch.randn(len(y)))
    s = sigma.reshape(-1, 1, 1, 1)
    weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2
    optimizer.zero_grad(set_to_none=True)
    (weight * (denoise(network, y + s * torch.randn_like(y), sigma) - y) ** 2).mean().backward()
    optimizer.step()
    with torch.no_grad():
        torch._foreach_lerp_(average, list(network.parameters()), 1 - decay)


@torch.inference_mode()
def heun(network, grid: list[float], y: torch.Tensor) -> torch.Tensor:
    """Samples of the shape of y, two evaluations a step and one for the last."""
    x = grid[0] * torch.randn_like(y)
    for now, after in zip(grid[:-1], grid[1:], strict=True):
        slope = (x - denoise(network, x, torch.full((len(x),), now))) / now
        moved = x + (after - now) * slope
        if after > 0:
            second = (moved - denoise(network, moved, torch.full((len(x),), after))) / after
            moved = x + (after - now) * (slope + second) / 2
        x = moved
    return x


def forward_flops(network: torch.nn.Module, y: torch.Tensor) -> float:
    """Of one image, two for each multiply-add."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(y, torch.zeros(len(y)))
    return counter.get_total_flops() / len(y)


def their_work(
    name: str, shape: tuple[int, int, int], batch: int, sampling_steps: int, threads: int
) -> dict[str, Work]:
    """Training and sampling by 'diffusers' or 'azula', each with ', channels last' or ', channels first'."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    who, _, order = name.partition(", channels ")
    memory = torch.channels_last if order == "last" else torch.contiguous_format
    network: torch.nn.Module = Azula(shape[2]) if who == "azula" else Diffusers(shape)
    network = network.to(memory_format=memory)
    y = torch.from_numpy(images(batch, shape)).permute(0, 3, 1, 2).contiguous(memory_format=memory)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    average = [p.detach().clone() for p in network.parameters()]
    grid = [float(sigma) for sigma in karras_schedule(sampling_steps)]
    flops, evaluations = forward_flops(network, y), 2 * sampling_steps - 1
    details = {"forward_flops": flops, "parameters": sum(p.numel() for p in network.parameters())}

    def work(run: Callable[[], object], forwards: int) -> Work:
        return Work(run, batch, forwards * flops * batch, 0.0, details)

    return {
        "training": work(partial(training_step, network, optimizer, average, 0.999, y), 3),
        "sampling": work(partial(heun, network, grid, y), evaluations),
    }
