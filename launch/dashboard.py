"""Makes a dashboard in wandb for the runs of a project: `python launch/dashboard.py entity=ME project=advkge`."""

import os
from pathlib import Path

import hydra
from omegaconf import DictConfig

from graph.errors import InputError
from launch.errors import one_line_errors
from launch.main import main_of
from launch.options import check_values
from launch.paths import make_absolute
from reporting.dashboard import dashboard
from reporting.files import write_text

_TRIES_AGAIN = "WANDB_X_GRAPHQL_RETRY_MAX"
"""wandb's own variable: how often it repeats a request that was not answered."""


@hydra.main(version_base="1.3", config_path=str(Path(__file__).parents[1] / "conf"), config_name="dashboard")
def run_job(config: DictConfig) -> None:
    """Saves the dashboard in wandb, and prints its address; or writes it to a file."""
    with one_line_errors():
        check_values(config)
        make_absolute(config)
        if config.entity is None:
            raise InputError("entity must be your user name or team in wandb, as in entity=ME, it is not given")
        made = dashboard(config.entity, config.project, config.name)
        if config.out is not None:
            # Its only form without a connection, so wandb-workspaces is pinned to a minor version.
            write_text(Path(config.out), made._to_model().model_dump_json(by_alias=True, indent=1))
            print(f"dashboard: {config.out}")
            return
        # Otherwise wandb goes on trying until it gives up after 19 s, and then does not say what was wrong.
        os.environ.setdefault(_TRIES_AGAIN, "1")
        try:
            made.save()
        except Exception as error:  # wandb has no common class for a missing account, project or connection
            raise InputError(f"wandb can't save the dashboard: {' '.join(str(error).split())[:300]}") from error
        print(f"dashboard: {made.url}")


def main() -> None:
    """The command."""
    main_of("dashboard", run_job)


if __name__ == "__main__":
    main()
