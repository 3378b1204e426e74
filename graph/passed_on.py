"""Constructors that pass options on to their base class, and still show all of them."""

import inspect
from typing import ClassVar


class PassesOptionsOn:
    """A base of classes whose constructors may pass options on to their base class as `**options`.

    `inspect.signature` of such a class shows the options of both, so that the check of a run's options knows them.
    """

    __signature__: ClassVar[inspect.Signature]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__signature__ = _whole_signature(cls)


def _whole_signature(cls: type) -> inspect.Signature:
    """The signature of a class's constructor, with `**options` replaced by the options of its base class."""
    base = next(each for each in cls.__mro__[1:] if "__init__" in vars(each))
    if "__init__" not in vars(cls):
        return inspect.signature(base)
    (_, *own) = inspect.signature(vars(cls)["__init__"]).parameters.values()
    if not own or own[-1].kind is not inspect.Parameter.VAR_KEYWORD:
        return inspect.Signature(own)
    named = {parameter.name: parameter for parameter in own[:-1]}
    passed_on = [each for name, each in inspect.signature(base).parameters.items() if name not in named]
    return inspect.Signature(sorted([*named.values(), *passed_on], key=lambda each: each.kind))
