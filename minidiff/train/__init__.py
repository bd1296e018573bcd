"""Training: recipes, the loop, checkpoints and run records."""
from .checkpoint import Loaded, bundled, export, load_model
from .config import PRESETS, Config, preset
from .distributed import Ranks, ranks
from .faults import CannotSave, Diverged
from .follower import trainer_of
from .records import read_metrics
from .trainer import Outcome, Trainer

__all__ = ["PRESETS", "CannotSave", "Config", "Diverged", "Loaded", "Outcome", "Ranks", "Trainer", "bundled", "export", "load_model",
           "preset", "ranks", "read_metrics", "trainer_of"]
