"""The ranks beside the first: the same steps, and no trace of them."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from .config import Config
from .distributed import Ranks
from .records import Nowhere
from .trainer import Outcome, Trainer


class Follower(Trainer):
    """A :class:`Trainer` that writes nothing, draws nothing and says nothing. What it is for is in its gradients.

    While the first rank saves, draws or measures the held-out loss, the others wait for it in the next exchange.
    """

    def run(self) -> Outcome:
        """Make the steps, with no lock and no file."""
        return self._run()

    def _begin(self) -> None:
        self._show_progress = False
        self.launches.append({})
        self.metrics = Nowhere()

    def _hold_out(self) -> None:
        pass

    def _look(self) -> dict[str, float]:
        return {}

    def _save_state(self) -> Path:
        return self._checkpoint(self.step)

    def _save_weights(self, name: str, **facts: Any) -> Path:
        return self.out / name

    def _drop_old(self) -> None:
        pass

    def _record(self, status: str, **facts: Any) -> None:
        pass


def trainer_of(group: Ranks, config: Config, out: str | Path, resume: bool = False, **options: Any) -> Trainer:
    """This rank's trainer. Raises BadInput on all ranks where one of them cannot have one."""
    kind = Trainer if group.first else Follower
    return group.together(lambda: kind(config, out, resume, group=group, **options))
