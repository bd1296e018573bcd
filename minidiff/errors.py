"""The one exception that means: what was given is wrong."""

from __future__ import annotations


class BadInput(ValueError):
    """What the caller gave is wrong. The message is one line: what was wrong, and what would be right.

    The command line prints that line as ``minidiff: <line>`` and leaves with status 2, without a traceback.
    """
