"""Device, precision and local random streams."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")

# Below this number of weights the casts to bfloat16 cost more than its products save.
_BFLOAT16_PAYS_FROM = 2**18

# A value in bfloat16 has 8 bits. In wide rows what they leave out evens out; rows of few features,
# most of all shapes in a plane, are blurred by it.
_MOST_FEATURES_IN_FULL = 100

_DRAW_NOTHING = {
    nn.Sequential,
    nn.ModuleList,
    nn.Linear,
    nn.BatchNorm1d,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
}


def require_torch(version: str, what: str) -> None:
    """Raise ImportError where torch is older than `what` needs."""
    if torch.__version__ < version:  # torch compares them as versions
        raise ImportError(f"{what} needs torch {version} or newer. Got {torch.__version__}.")


def resolve_device(device: str) -> torch.device:
    """The torch device that the parameter `device` names; "auto" takes CUDA or MPS if any.

    Raises
    ------
    ValueError
        If `device` is not a torch device, or is not available on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        torch.empty(0, device=resolved).cpu()  # "meta" takes data but does not give it back
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(
            f"The 'device' parameter of DECClustering must be 'auto' or a torch device available "
            f"on this machine. Got {device!r} instead."
        ) from error
    return resolved


def available(device: str) -> torch.device:
    """The torch device of that name, or the CPU where this machine does not have it."""
    try:
        return resolve_device(device)
    except ValueError:
        return CPU


def searching_device(device: torch.device) -> torch.device:
    """Where neighbours are sought for a network on `device`; MPS, unlike CUDA, has no float64."""
    return device if device.type == "cuda" else CPU


def resolve_precision(
    precision: str, device: torch.device, module: nn.Module, n_features: int
) -> torch.dtype:
    """The dtype of the network's products while it is trained on rows of `n_features`.

    "auto" is bfloat16 where the hardware multiplies matrices in it, the built-in network is large
    enough to gain and rows are wide enough not to lose. Weights, centres, losses and gradients'
    sums stay in float32.
    """
    # Running statistics lose their meaning in 8 bits of mantissa.
    has_buffers = next(module.buffers(), None) is not None
    if precision == "float32" or has_buffers:
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    n_weights = sum(weight.numel() for weight in module.parameters())
    pays = draws_nothing(module) and n_weights >= _BFLOAT16_PAYS_FROM
    pays &= n_features > _MOST_FEATURES_IN_FULL
    return torch.bfloat16 if pays and _multiplies_in_bfloat16(device) else torch.float32


def _multiplies_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    units = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, u, lambda: False)() for u in units)


def draws_nothing(module: nn.Module) -> bool:
    """Whether all parts of `module` are known to draw no random numbers when applied."""
    return all(
        type(part) in _DRAW_NOTHING or getattr(part, "draws_nothing", False)
        for part in module.modules()
    )


def is_recordable(module: nn.Module) -> bool:
    """Whether applying `module` is known to be the same operations each time, all on its device."""
    parts = list(module.modules())
    return draws_nothing(module) and not any(
        part._forward_hooks or part._forward_pre_hooks or getattr(part, "momentum", 0) is None
        for part in parts  # batch normalisation without a momentum counts, on the CPU
    )


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose; other purposes of the same `seed` get independent ones."""
    (state,) = np.random.SeedSequence((seed, *purpose.encode())).generate_state(1, np.uint64)
    return int(state >> np.uint64(1))


def random_stream(
    seed: int, purpose: str = "", device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator of its own; torch's global generators are never read nor written."""
    return torch.Generator(device=device).manual_seed(derived_seed(seed, purpose))


class LocalRandomness(TorchDispatchMode):
    """Serve every random torch operation of this thread from `generator`.

    Layers such as `torch.nn.Linear` and `torch.nn.Dropout` draw from torch's global generator
    and take no other. Seeding that one, even for a while, would be seen by other threads; a
    dispatch mode belongs to its thread.
    """

    def __init__(self, generator: torch.Generator):
        super().__init__()
        self.generator = generator

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags or _drops_nothing(func, args, kwargs):
            return func(*args, **kwargs)
        if func is torch.ops.aten.native_dropout.default:
            return self._dropout(*args, **kwargs)
        seeded = _with_generator(func)
        return seeded(*args, **{**kwargs, "generator": self.generator})

    def _dropout(self, input, p, train):
        kept = torch.rand(input.shape, device=input.device, generator=self.generator) >= p
        if not train:
            return input.clone(), torch.ones_like(kept)
        return input * kept / max(1.0 - p, 1e-12), kept


def _drops_nothing(func, args, kwargs) -> bool:
    """Whether the operation is random only by its dropout, and that is 0."""
    given = {a.name: v for a, v in zip(func._schema.arguments, args, strict=False)} | kwargs
    defaults = {a.name: a.default_value for a in func._schema.arguments}
    return any({**defaults, **given}.get(name) == 0 for name in ("dropout", "dropout_p"))


def _with_generator(func):
    """The overload of a random torch operation that takes a generator."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    wanted = [argument.name for argument in func._schema.arguments]
    for name in func.overloadpacket.overloads():
        seeded = getattr(func.overloadpacket, name)
        names = [argument.name for argument in seeded._schema.arguments]
        if "generator" in names and [n for n in names if n != "generator"] == wanted:
            return seeded
    raise NotImplementedError(
        f"The 'autoencoder' draws random numbers with {func}, which accepts no generator; skdec "
        "cannot make it reproducible. Use torch.rand, torch.randn, torch.nn.init or dropout."
    )
