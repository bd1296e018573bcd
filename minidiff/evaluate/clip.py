"""CLIP through open_clip: one network that turns a picture into a vector, one that does so with a sentence, and the angle between.

The two were trained together, so that a picture and its own caption point the same way (Radford et al. 2021). PyTorch and
open_clip do the work, and are imported when a model is asked for, not before. Nothing is downloaded: where weights are
missing, the message says which file to fetch, and where to put it.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import json
import logging
import sys
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadInput
from ..files import cache_folder
from .samples import range_fault

INSTALL = 'pip install "open_clip_torch>=3.3" torch==2.13.0 torchvision==0.28.0'
RANDOM = "random"
ENDINGS = (".safetensors", ".pt", ".pth", ".bin")
WAYS = ("own", "course")
_declared: list[Any] = []  # libraries of operators live as long as the object that declared them


@dataclass(frozen=True)
class Clip:
    """A model of open_clip with all that goes with it.

    name, weights    which model speaks: its name, and the file of its weights, their tag, or "random"
    preprocess       the model's own: a PIL image -> (3,H,W)
    tokenizer        sentences -> (N,L) integers, L the model's context length

    What comes out are NumPy arrays of unit vectors, so that a scalar product is a cosine.
    """

    name: str
    weights: str
    model: Any
    preprocess: Any
    tokenizer: Any
    device: str = "cpu"

    @property
    def trained(self) -> bool:
        """Whether the weights have learned anything."""
        return self.weights != RANDOM

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the pictures that the model looks at."""
        size = self.model.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(p.numel() for p in self.model.parameters())

    @property
    def activation(self) -> str:
        """What stands between the layers: "GELU", or "QuickGELU", x σ(1.702 x), with which OpenAI's models were trained."""
        kinds = {type(part).__name__ for part in self.model.modules()}
        return ", ".join(sorted(kind for kind in kinds if "GELU" in kind)) or "no GELU"

    @property
    def scale(self) -> float:
        """What the model itself multiplies cosines by before a softmax: learned, and at most 100 in public models."""
        return float(self.model.logit_scale.detach().exp())

    def describe(self) -> dict[str, Any]:
        """Which model speaks, as plain JSON values."""
        return {"name": self.name, "weights": self.weights, "trained": self.trained, "parameters": self.parameters, "size": list(self.size),
                "activation": self.activation, "scale": self.scale, "versions": {name: metadata.version(name) for name in ("open_clip_torch", "torch")}}  # fmt: skip

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Sentences as unit vectors.            # N sentences -> (N,D) float32"""
        torch = _torch()
        with torch.inference_mode():
            return _unit(self.model.encode_text(self.tokenizer(list(texts)).to(self.device)))

    def embed_images(self, images: np.ndarray, way: str = "own", batch_size: int = 64, progress: bool = False) -> np.ndarray:
        """Pictures as unit vectors.            # (N,1 or 3,H,W) in [−1,1] -> (N,D) float32

        way           "own", the model's own preprocessing, or "course": grey repeated to three channels of 0 … 1, bilinear to
                      the model's size (224 for ViT-B-32), and no mean and deviation taken out
        batch_size    pictures at a time, which is what memory depends on

        Raises BadInput for another way, and images of another shape.
        """
        if way not in WAYS:
            raise BadInput(f"clip: a picture is made ready in one of the ways {', '.join(WAYS)}, not {way!r}")
        if images.ndim != 4 or images.shape[1] not in (1, 3) or len(images) == 0:
            raise BadInput(f"clip: images must be (N,1,H,W) or (N,3,H,W), got {images.shape}")
        if fault := range_fault(images):
            warnings.warn(f"clip: {fault}", stacklevel=2)
        from tqdm import tqdm

        ready, torch = getattr(self, f"_{way}"), _torch()
        starts = tqdm(range(0, len(images), batch_size), desc="CLIP", unit="batch", leave=False, disable=not progress)
        with torch.inference_mode():
            return np.concatenate([_unit(self.model.encode_image(ready(images[i : i + batch_size]).to(self.device))) for i in starts])

    def _own(self, images: np.ndarray) -> Any:
        from PIL import Image

        pixels = np.rint((images + 1.0) * 127.5).clip(0, 255).astype(np.uint8)
        pictures = [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]
        return _torch().stack([self.preprocess(picture) for picture in pictures])

    def _course(self, images: np.ndarray) -> Any:
        torch = _torch()
        x = torch.from_numpy(np.ascontiguousarray((images + 1.0) / 2.0, np.float32))
        x = x.expand(-1, 3, -1, -1)                                          # (N,1,H,W) -> (N,3,H,W)
        return torch.nn.functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)


def load_clip(model: str | Path, weights: str | Path | None = None, device: str = "cpu") -> Clip:
    """A model of open_clip, ready to look and to read.

    model      a name that open_clip knows, such as "ViT-B-32", or a configuration file (.json)
    weights    a file (.safetensors, .pt, .pth, .bin), read as numbers alone, never as a pickle that could run code; a tag that
               open_clip knows, such as "openai", if its file is on this machine; or "random", to try the path without weights.
               OpenAI's own weights, given as a file, belong to the models with -quickgelu in their name
    device     one of PyTorch's, "cpu" or "cuda"

    Raises BadInput where open_clip is missing, for a name that it does not know, weights that are not here, do not fit or were
    trained with QuickGELU where the model has GELU, and a tokenizer that would have to be downloaded.
    """
    open_clip, torch = _open_clip(), _torch()
    name = _registered(open_clip, model)
    file, options = _weights(open_clip, name, weights)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BadInput(f"clip: device {device}: this PyTorch ({torch.__version__}) finds no GPU; use cpu")
    network, preprocess = _network(open_clip, name, file, options, device)
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        raise BadInput(f"clip: the tokenizer of {name} is not at hand ({_first_line(error)}); models with CLIP's own, such as ViT-B-32, bring it along") from None
    if file is not None and options is None:
        _check_activation(open_clip, name, file, network)
    said = RANDOM if file is None else file.name if options is None else str(weights)
    return Clip(name, said, network.eval(), preprocess, tokenizer, device)


def _registered(open_clip: Any, model: str | Path) -> str:
    """The name by which open_clip knows the model; a configuration file is made known to it first."""
    name, known = str(model), open_clip.list_models()
    if name in known:
        return name
    if Path(name).suffix != ".json":
        close = difflib.get_close_matches(name, known, 3) or ["ViT-B-32", "ViT-L-14"]
        raise BadInput(f"clip: open_clip knows no model '{name}'; it is a configuration file (.json) or a name such as {', '.join(close)}")
    wanted = "a configuration of open_clip is JSON with embed_dim, vision_cfg and text_cfg"
    try:
        found = json.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"clip: {name}: {getattr(error, 'strerror', None) or 'is no JSON'}; {wanted}") from None
    missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if not isinstance(found, dict) or key not in found]
    if missing:
        raise BadInput(f"clip: {name}: has no {', '.join(missing)}; {wanted}")
    open_clip.add_model_config(name)
    return Path(name).stem


def _weights(open_clip: Any, name: str, weights: str | Path | None) -> tuple[Path | None, dict[str, Any] | None]:
    """The file of the weights, None for random ones; and for a tag, what open_clip has noted of it."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if weights is None:
        how = f"give a tag ({', '.join(tags[:4])}) or a file" if tags else "give a file"
        raise BadInput(f"clip: {name} needs weights: {how} ({', '.join(ENDINGS)})")
    if str(weights) == RANDOM:
        return None, None
    if str(weights) in tags:
        return _tagged(open_clip, name, str(weights))
    path = Path(weights).expanduser()
    if not path.is_file():
        others = f", nor a tag of {name}: {', '.join(tags)}" if tags else ""
        raise BadInput(f"clip: {weights}: no such file{others}")
    if path.suffix not in ENDINGS:
        hint = f"; inflate it first: xz -dk {path.name}" if path.suffix == ".xz" else ""
        raise BadInput(f"clip: {weights}: unknown ending '{path.suffix}'; weights are {', '.join(ENDINGS)}{hint}")
    if _is_torchscript(path):
        raise BadInput(f"clip: {path.name} is a TorchScript archive, which holds code beside the numbers; make a file of its numbers alone: "
                       f"safetensors.torch.save_file(torch.jit.load('{path.name}', 'cpu').state_dict(), '{path.stem}.safetensors')")  # fmt: skip
    return path.absolute(), None                          # not resolved: the files of Hugging Face's cache are links, and have no endings


def _is_torchscript(path: Path) -> bool:
    """Whether a .pt file is a program with its weights, as torch.jit.save writes it; torch.save's archives hold no constants.pkl."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _check_activation(open_clip: Any, name: str, file: Path, network: Any) -> None:
    """Raises BadInput where a file's weights were trained with QuickGELU, and the model of this name has GELU.

    A file does not say its activation, and with the wrong one everything works, a little worse. OpenAI's files can be told
    by their numbers: the weights of linear layers and convolutions were rounded to half precision, those of embeddings were not.
    """
    better = quick_gelu_name(open_clip, name)
    if better and (any(word in file.name.lower() for word in ("openai", "quickgelu")) or _rounded_as_openais(network)):
        raise BadInput(f"clip: {file.name} holds weights that were trained with QuickGELU, as OpenAI's were, and {name} has GELU; give --clip {better}")


def quick_gelu_name(open_clip: Any, name: str) -> str:
    """The name of the same model with QuickGELU, or nothing where there is none."""
    return better if (better := f"{name}-quickgelu") in open_clip.list_models() else ""


def _rounded_as_openais(network: Any) -> bool:
    torch = _torch()

    def rounded(*kinds: Any) -> bool:
        return all(torch.equal(part.weight, part.weight.half().to(part.weight.dtype)) for part in network.modules() if isinstance(part, kinds))

    return rounded(torch.nn.Linear, torch.nn.Conv2d) and not rounded(torch.nn.Embedding)


def _tagged(open_clip: Any, name: str, tag: str) -> tuple[Path, dict[str, Any]]:
    """The file of a tag, from minidiff's cache or from Hugging Face's."""
    noted = dict(open_clip.get_pretrained_cfg(name, tag))
    repository, _, file = noted.get("hf_hub", "").rpartition("/")
    file = file or "open_clip_model.safetensors"
    url = f"https://huggingface.co/{repository}/resolve/main/{file}" if repository else noted.get("url", "")
    ours = cache_folder("clip", f"{name}-{tag}{Path(file if repository else url).suffix}")
    if ours.is_file():
        return ours, noted
    if repository:
        cached = importlib.import_module("huggingface_hub").try_to_load_from_cache(repository, file)
        if isinstance(cached, str):
            return Path(cached), noted
    better = quick_gelu_name(open_clip, name) if noted.get("quick_gelu") else ""
    of = f" of {better}" if better else ""                # a file does not tell its activation
    raise BadInput(f"clip: the weights '{tag}' of {name} are not on this machine; fetch {url} and put it at {ours}, or give the file itself as weights{of}")


def _network(open_clip: Any, name: str, file: Path | None, noted: dict[str, Any] | None, device: str) -> tuple[Any, Any]:
    """The network with its weights, and the preprocessing that goes with it."""
    torch, noted = _torch(), noted or {}
    options = {f"image_{key}": noted[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in noted}
    try:
        with _silent(), torch.random.fork_rng([]):
            torch.manual_seed(0)                                             # random weights are the same every time
            network, _, preprocess = open_clip.create_model_and_transforms(
                name, pretrained=None if file is None else str(file), load_weights=file is not None, weights_only=True,
                pretrained_image=False, pretrained_text=False, force_quick_gelu=noted.get("quick_gelu", False), device=device, **options,
            )  # fmt: skip
    except Exception as error:
        if file is None:
            raise BadInput(f"clip: {name}: open_clip cannot build it ({_first_line(error)})") from None
        if "Error(s) in loading state_dict" in str(error):
            raise BadInput(f"clip: {file.name} holds the weights of another model than {name} ({_first_fault(error)})") from None
        raise BadInput(f"clip: {file.name} is no plain state dict ({_first_line(error)}); a .safetensors file, or a .pt of tensors alone, would do") from None
    return network, preprocess


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """open_clip logs on the root logger that weights are random, which was asked for."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _first_fault(error: Exception) -> str:
    """The first difference that PyTorch lists below its heading."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return (lines[1] if len(lines) > 1 else lines[0])[:160]


def _unit(vectors: Any) -> np.ndarray:
    return _torch().nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise BadInput(f"clip: PyTorch is not installed; {INSTALL}") from None


def _open_clip() -> Any:
    """open_clip, imported; torchvision's missing operators are declared before it, if they are missing."""
    _torch()
    try:
        declare_operators()
        return importlib.import_module("open_clip")
    except ModuleNotFoundError as error:
        raise BadInput(f"clip: {error.name} is not installed; {INSTALL}") from None
    except ImportError as error:
        raise BadInput(f"clip: open_clip cannot be imported ({_first_line(error)}); {INSTALL} gives versions that go together") from None


def declare_operators() -> None:
    """Make torchvision importable beside a PyTorch for the CPU alone.

    torchvision 0.28 from the package index is compiled for CUDA. Its compiled part cannot be loaded by a PyTorch that has none,
    so nobody declares the operators `nms` and `qnms`, and the import ends with "operator torchvision::nms does not exist",
    although CLIP needs neither. Where that happens, and nowhere else, their schemas are declared here, by the public means for
    it, torch.library. The half-made import is forgotten before the second try.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = _torch().library.Library("torchvision", "FRAGMENT")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")
