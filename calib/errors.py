"""Whose fault, and what next.

    UserError              a mistake that the user can mend, in one line: what, where, what to do; exit code 2
    +-- JournalError       the journal cannot be opened, read or written as asked
    DeviceError            (devices.device) a robot or its link failed; exit code 3

Anything else is a bug of the lab and is shown with its traceback.
"""


class UserError(Exception):
    """A mistake of the user. The message says what is wrong, where, and what to do, in one line."""


class JournalError(UserError):
    """The journal cannot be opened, read or written as asked."""
