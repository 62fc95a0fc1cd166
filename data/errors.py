"""The error for mistakes that a user can make."""


class UserError(ValueError):
    """An invalid file or setting. The message is one line: the rule, the value and the remedy.

    Commands print it and exit with code 2. Every other exception is a bug and keeps its traceback.
    """
