"""The one exception that means "the input is wrong", as opposed to "the program is wrong"."""


class UserError(ValueError):
    """Bad input: a config value, a file, a folder.

    The message is one sentence or two: what is wrong, where, which value, and the remedy. The command-line tools print
    it without a traceback and exit with code 2.
    """
