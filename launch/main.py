"""The `main` that commands share: those that run in this process, with options of their own."""

import sys
from collections.abc import Callable

from launch import schema
from launch.arguments import read_arguments
from launch.closed_pipe import unread_output_dropped
from launch.errors import one_line_config_errors, one_line_errors
from launch.help import help_of
from launch.plain_words import refuse_plain_words
from launch.ranks import refuse_sweep


def main_of(name: str, run_job: Callable[[], None]) -> None:
    """The `main` of a command, whose file in conf/ has this name."""
    with unread_output_dropped():
        schema.register()
        with one_line_errors():
            refuse_plain_words(sys.argv[1:], name)
            refuse_sweep(sys.argv[1:], alone=False)
            arguments = read_arguments(sys.argv[1:])
            if arguments.wants_help:
                print(help_of(name))
                return
            sys.argv[1:] = arguments.as_list()
        with one_line_config_errors(name):
            run_job()
