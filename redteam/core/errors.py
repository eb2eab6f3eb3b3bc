"""Every error a user can cause, each with one line that says what is wrong and what would do.

    RedteamError
    ├── UsageError        options that do not go together
    ├── DataError         a data file, its columns, or what the rows say
    ├── LedgerError       a ledger that is broken, edited, or of another model
    ├── BundleError       a model file that cannot be read safely
    ├── TargetError       a target that cannot be reached or answers nonsense
    ├── StatisticsError   arrays from which no honest number can be made
    ├── PolicyError       a policy file, its keys, limits or waivers
    └── ReportError       a saved report that is broken or of another format

The command line prints the message and exits 2. Inside an audit, an error of one attack becomes a `Failure`. What the
exit codes mean is the contract with every build that calls it.
"""

PASS = 0  # every limit judged, none proven exceeded
LEAK = 1  # a finding proven, not waived and not in the baseline
INCONCLUSIVE = 2  # anything else that is not a pass
INTERRUPTED = 130  # the same command goes on where it was


class RedteamError(Exception):
    """Something the user can put right; its message is one line."""


class UsageError(RedteamError):
    """Options that do not go together, or one that is missing."""


class DataError(RedteamError):
    """A data file that cannot be read, or rows that cannot be audited."""


class LedgerError(RedteamError):
    """A ledger that is broken, edited, or belongs to another model."""


class BundleError(RedteamError):
    """A model file that cannot be read, or cannot be read safely."""


class TargetError(RedteamError):
    """A target that cannot be reached, or whose answers make no sense."""


class StatisticsError(RedteamError):
    """Arrays from which no honest number can be made."""


class PolicyError(RedteamError):
    """A policy file with an unknown key, an impossible limit or an expired waiver."""


class ReportError(RedteamError):
    """A saved report that is broken, or of a format this version does not read."""


def one_line(error: BaseException) -> str:
    """Return an exception as one line: its message, with its type in front where it is not one of ours."""
    message = " ".join(str(error).split())[:300]
    return message if isinstance(error, RedteamError) else f"{type(error).__name__}: {message}"


def first_line(error: BaseException) -> str:
    """Return the first line of an error of others, short enough for a message of ours."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:160]
