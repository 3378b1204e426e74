"""The command `advkge`: `advkge train ...` is `python launch/train.py ...`, and so on for each file in launch/.

torchrun starts the files themselves: `torchrun --nproc-per-node=2 launch/train.py ...`.
"""

import importlib
import sys
from collections.abc import Callable

from launch.early_signals import end_at_signals

COMMANDS = {
    "prepare": "split triples of your own into train, valid and test, and describe them",
    "train": "train a model; also several in a sweep, on one or more processes",
    "predict": "ask a trained model: the best tails, heads or relations, or scores of triples",
    "similar": "find the entities or relations that are nearest to one",
    "discover": "find the most plausible facts that the graph lacks",
    "report": "write a page about a run or a sweep",
    "compare": "compare trained runs, with confidence intervals",
    "evaluate": "rank valid or test triples by a trained model, or tell true triples from false ones",
    "export": "write a trained model's rows for use without this project",
    "search": "search for good options",
    "scorecard": "compare negative samplers under an equal budget",
    "dashboard": "make a wandb dashboard for all runs of a project",
}
"""What each command of launch/ does, in the order in which a new user needs them."""


def main() -> None:
    """Calls the command that the first argument names; lists all for `--help` and for none."""
    end_at_signals()
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h"):
        print(_listed())
        return
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: there is no command {name[:80]!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(1)
    from launch.before_torch import has_said_all
    from launch.this_command import installed_as

    sys.argv = [installed_as(name), *rest]
    if not has_said_all(name, rest):
        run: Callable[[], None] = importlib.import_module(f"launch.{name}").main
        run()


def _listed() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {does}" for name, does in COMMANDS.items()]
    return "\n".join(
        [
            "Adversarial training of knowledge-graph embeddings.",
            "",
            "usage: advkge COMMAND [KEY=VALUE ...]",
            "",
            *lines,
            "",
            "advkge COMMAND --help lists the options of a command. For example:",
            "  advkge train graph=umls discriminator=rotate",
        ]
    )
