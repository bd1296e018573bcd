"""The exceptions that end a command with one line: what was given is wrong, or the work failed."""

from __future__ import annotations


class BadInput(ValueError):
    """What the caller gave is wrong. The message is one line: what was wrong, and what would be right.

    The command line prints that line as ``minidiff: <line>`` and leaves with status 2, without a traceback.
    """


class Failed(RuntimeError):
    """What the caller gave is right, and the work failed. The message is one line.

    The command line prints that line as ``minidiff: <line>`` and leaves with status 1, without a traceback.
    """
