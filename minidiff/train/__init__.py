"""Training: recipes, the loop, checkpoints and run records."""
from .checkpoint import Loaded, bundled, export, load_model
from .config import PRESETS, Config, preset
from .faults import CannotSave, Diverged
from .records import read_metrics
from .trainer import Outcome, Trainer

__all__ = ["PRESETS", "CannotSave", "Config", "Diverged", "Loaded", "Outcome", "Trainer", "bundled", "export", "load_model",
           "preset", "read_metrics"]
