"""The error of a rank whose exchange another rank did not join; imports no torch, because commands import it first."""

from graph.errors import InputError


class LostRankError(InputError):
    """Another rank did not take part in an exchange: it hangs, or has died."""

    def __init__(self, message: str, *, hangs: bool) -> None:
        super().__init__(message)
        self.hangs = hangs


def late(ranks: str, seconds: float) -> LostRankError:
    """The error for ranks, such as "rank 1", that others have waited for so many seconds."""
    return LostRankError(
        f"{ranks} did not take part in an exchange within {seconds:g} seconds (launch.timeout_seconds): it hangs, or "
        "has much more to do than the others, or a slower disk",
        hangs=True,
    )
