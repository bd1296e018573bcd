"""minidiff: a diffusion model you can read from the first tensor to the last sample.

    import minidiff as md

    x = md.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x * x).sum().backward()
    x.grad                                    # tensor([2., 4., 6.])
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from . import backend  # isort: skip  (before anything imports NumPy)
from . import data, diffusion, models, nn, ops, optim, philox
from .anomaly import detect_anomaly
from .autograd import enable_grad, grad, is_grad_enabled, no_grad
from .backend import (
    get_kernels,
    get_num_threads,
    get_precision,
    keep_freed_memory,
    manual_seed,
    precision,
    set_kernels,
    set_num_threads,
    set_precision,
)
from .errors import BadInput
from .gradcheck import GradcheckError, gradcheck
from .interop import from_dlpack
from .recompute import checkpoint
from .tensor import Tensor, tensor
from .transforms import hessian, hvp, jacobian, jvp, vjp

if TYPE_CHECKING:
    from . import clinic, evaluate, train, viz

LATER = ("clinic", "evaluate", "train", "viz")  # take longer to import, so they come when they are asked for


def __getattr__(name: str) -> Any:
    """`md.train` and the others of LATER, imported at their first use."""
    if name not in LATER:
        raise AttributeError(f"module 'minidiff' has no attribute {name!r}")
    import importlib

    return importlib.import_module(f"minidiff.{name}")


__all__ = [
    "BadInput",
    "GradcheckError",
    "Tensor",
    "backend",
    "checkpoint",
    "clinic",
    "data",
    "detect_anomaly",
    "diffusion",
    "enable_grad",
    "evaluate",
    "from_dlpack",
    "get_kernels",
    "get_num_threads",
    "get_precision",
    "grad",
    "gradcheck",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "keep_freed_memory",
    "manual_seed",
    "models",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "philox",
    "precision",
    "set_kernels",
    "set_num_threads",
    "set_precision",
    "tensor",
    "train",
    "vjp",
    "viz",
]
