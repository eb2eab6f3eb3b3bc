"""What a kind of target is: how such a target is named, and how it is opened."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from redteam.targets.target import Target


class TargetKind(ABC):
    """One kind of target.

    `looks` says how its sources look, and is empty where they are paths. A `general` kind steps back where another
    names the same source.
    """

    name: ClassVar[str]
    looks: ClassVar[str] = ""
    general: ClassVar[bool] = False

    @abstractmethod
    def names(self, source: str) -> bool:
        """Return whether `source` names such a target; nothing is opened or asked."""

    @abstractmethod
    def open(self, source: str, **options: Any) -> Target:
        """Open it; raise TargetError or BundleError with one line that says what is wrong."""
