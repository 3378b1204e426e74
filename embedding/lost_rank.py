"""The error of a rank whose exchange another rank did not join; imports no torch, because commands import it first."""

from graph.errors import InputError


class LostRankError(InputError):
    """Another rank did not take part in an exchange: it hangs, or has died."""

    def __init__(self, message: str, *, hangs: bool) -> None:
        super().__init__(message)
        self.hangs = hangs
