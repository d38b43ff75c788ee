"""The metrics as TensorBoard events, for those who like curves that move: --tensorboard.

Off by default, and an extra: pip install tensorboard. The events lie in the run folder and go
nowhere else:

    tensorboard --logdir runs
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from minippo.errors import InputError


class Events:
    """Writes rows of metrics to `folder`/tensorboard. After a resume, what an earlier process wrote
    later than `update` is void."""

    def __init__(self, folder: Path, update: int = 0) -> None:
        self.writer = summary_writer()(str(folder / "tensorboard"), purge_step=update + 1)

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if isinstance(value, (int, float)) and name != "update":
                self.writer.add_scalar(name, value, row["update"])
        self.writer.flush()


def summary_writer() -> type[Any]:
    """The class that writes events. InputError when the package is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            "--tensorboard: the package tensorboard is not installed; pip install tensorboard"
        ) from error
    return SummaryWriter
