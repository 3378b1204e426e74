"""The error for what a user gave: shown as one line, without a traceback."""


class InputError(ValueError):
    """Something the user gave (a file, a config value, a checkpoint) breaks a rule.

    The message is one line that names the file and line, or the config key, then the rule and the value.
    """
