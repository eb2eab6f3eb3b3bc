"""A classifier that is a Python function: the way in for everything that has no file format of its own."""

import contextlib
import functools
import hashlib
import importlib
import importlib.machinery
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from redteam.core import TargetError
from redteam.core.files import sha256
from redteam.targets.blackbox import BlackBox
from redteam.targets.forms import as_document
from redteam.targets.kind import TargetKind


class FunctionKind(TargetKind):
    """`module:function`, imported from the working directory or from what is installed."""

    name, looks, general = "function", "module:function", True

    def names(self, source: str) -> bool:
        """Return whether `source` has a colon, is no URL and no file."""
        return ":" in source and "/" not in source.rpartition(":")[2] and not Path(source).exists()

    def open(self, source: str, **options: Any) -> "FunctionTarget":
        """Import the function that `source` names; `options` are labels and batch_size. Raises TargetError."""
        return FunctionTarget.load(source, **options)


class FunctionTarget(BlackBox):
    """A function from a list of n texts to probabilities [n, k], or to any answer an endpoint may give.

    This runs the user's code, with everything that the user may do. A bare list of n label names is taken as
    predicted labels. `labels` name the columns; without them the function's own `labels` attribute does. The
    function is called once at construction, with one harmless text. What it prints goes to standard error.

    >>> target = FunctionTarget(lambda texts: [[0.9, 0.1]] * len(texts), labels=["ham", "spam"], name="optimist")
    >>> target.name, target.labels
    ('optimist', ('ham', 'spam'))
    """

    kind = "function"

    def __init__(
        self,
        function: Callable[[list[str]], Any],
        *,
        labels: Sequence[str] | None = None,
        name: str | None = None,
        batch_size: int = 256,
        directory: Path | None = None,
    ) -> None:
        """Check and call once; imports that the function does later may come from `directory`."""
        called = name or str(getattr(function, "__qualname__", type(function).__name__))
        if not callable(function):
            raise TargetError(f"{called}: not callable; name a function that takes a list of texts")
        if labels is None:
            labels = _declared(function)
        super().__init__(called, labels, batch_size)
        self._function, self._directory = function, directory
        self._probe()

    @classmethod
    def load(cls, source: str, *, labels: Sequence[str] | None = None, batch_size: int = 256) -> "FunctionTarget":
        """Import the `source`, module:function, and make a target of it; the working directory counts as importable.

        It is asked about `batch_size` texts at a time. Runs the module. Its labels come from the option, else from the
        function's or the module's `labels`. There is no `digest`: answers depend on more than the source, on weights
        above all. Raises TargetError.
        """
        function, module, directory = import_function(source)
        if labels is None:
            labels = _declared(function) or _declared(module)
        return cls(function, labels=labels, name=source, batch_size=batch_size, directory=directory)

    @property
    def identity(self) -> str:
        """A hash of where the function is from and of the code beside it, in its folder and the working directory."""
        place = [str(self._directory), self.name, *own_code(self._function, self._directory)]
        return hashlib.sha256("\n".join(place).encode("utf-8", "surrogateescape")).hexdigest()

    def _ask(self, texts: list[str]) -> object:
        try:
            with surroundings(self._directory):
                return as_document(self._function(texts))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the user's sys.exit(0) must not end an audit as a pass
            raise TargetError(f"{self.name}: raised {placed(error)}") from None


def import_function(source: str) -> tuple[Any, ModuleType, Path]:
    """Import the `source`, module:function, which runs it; return function, module and the working directory.

    What the function imports later may come from that directory too. Raises TargetError.
    """
    module_name, _, attribute = source.rpartition(":")
    if not module_name or not attribute:
        raise TargetError(f"{source}: not of the form module:function")
    directory = Path.cwd()
    module = _import(source, module_name, directory)
    _check_place(source, module_name.partition(".")[0], directory)
    try:
        function = functools.reduce(getattr, attribute.split("."), module)
    except AttributeError:
        where = getattr(module, "__file__", None) or "a built-in module"
        raise TargetError(f"{source}: {module_name} ({where}) has no {attribute!r}") from None
    return function, module, directory


def own_code(function: Any, directory: Path | None) -> Iterator[str]:
    """Yield path and fingerprint of the function's file and of all modules imported from beside it or `directory`."""
    code = getattr(function, "__code__", None)
    if code is not None:
        yield f"line {code.co_firstlineno}"
    owner = sys.modules.get(getattr(function, "__module__", None) or type(function).__module__)
    own = getattr(owner, "__file__", None)
    folders = [Path(own).resolve().parent] if own else []
    folders += [directory.resolve()] if directory else []
    files = {Path(file).resolve() for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}
    for file in sorted(files):
        installed = "site-packages" in file.parts
        if not installed and any(folder in file.parents for folder in folders) and file.is_file():
            yield f"{file} {sha256(file)}"


def _check_place(source: str, name: str, directory: Path) -> None:
    """Raise TargetError where another module of that name was imported before and hides the one that is meant."""
    spec = importlib.machinery.PathFinder.find_spec(name, [os.fspath(directory)])
    loaded = getattr(sys.modules.get(name), "__file__", None)
    if spec is None or spec.origin is None or loaded is None:
        return
    if Path(spec.origin).resolve() != Path(loaded).resolve():
        raise TargetError(f"{source}: {name} is imported from {loaded} already, which hides {spec.origin}; rename it")


def _declared(owner: object) -> Sequence[str] | None:
    """Return the `labels` that a function or module declares: a sequence, since a set has no order."""
    labels = getattr(owner, "labels", None)
    return list(labels) if isinstance(labels, list | tuple | np.ndarray) else None


def _import(source: str, module_name: str, directory: Path) -> ModuleType:
    importlib.invalidate_caches()
    try:
        with surroundings(directory):
            return importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise TargetError(f"{source}: no module {error.name!r} here ({directory}) or installed") from None
        raise TargetError(f"{source}: importing {module_name} raised {placed(error)}") from None


@contextlib.contextmanager
def surroundings(directory: Path | None) -> Iterator[None]:
    """Make `directory` importable for a while and keep standard output, which is for reports, clean."""
    entry = None if directory is None else os.fspath(directory)
    if entry is not None:
        sys.path.insert(0, entry)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if entry is not None and entry in sys.path:  # only what was added: the user's code may have added its own
            sys.path.remove(entry)


def placed(error: BaseException) -> str:
    """Return the kind of an error of somebody's code and where it was raised, and what it says only where that is safe.

    What it says may hold the texts that it was given, or read: the texts of the training, on whatever keeps the log.
    With REDTEAM_DEBUG it is said in full.
    """
    kind, said = type(error).__name__, " ".join(str(error).split())
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    if os.environ.get("REDTEAM_DEBUG"):
        return f"{kind}{place}{f': {said}' if said else ''}"
    if isinstance(error, ImportError | SyntaxError):  # about code: names of modules, a place in a file
        return f"{kind}{place}: {(getattr(error, 'msg', None) or said)[:200]}"
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return f"{kind}: {error.code}{place}"
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}{place}: {error.strerror}"
    return f"{kind}{place}{' (REDTEAM_DEBUG=1 says what it says)' if said else ''}"


def in_one_line(error: BaseException) -> str:
    """Return the kind of an error and what it says, cut to fit one line: for code that sees made-up rows alone."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}{f': {message[:200]}' if message else ''}"
