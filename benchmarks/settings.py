"""How cases are measured: what the command line chose, handed on to each case's process."""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Settings:
    """The same for every case of a run."""

    graph: str
    """A name in conf/graph."""
    threads: int
    repeats: int
    seconds: float
    """About how long a repeat of training steps takes."""
    ranked: int
    """Test triples of a ranking."""
    peer_batches: int
    """Batches that the peer trains; 0 to leave it out."""

    def as_json(self) -> str:
        """For another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """What `as_json` gave."""
        return cls(**json.loads(text))
