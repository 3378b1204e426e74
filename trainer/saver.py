"""Saves where a run stands, at once or while it goes on, and resumes it from there."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from embedding.keyed_rows import KeyedRows
from graph.errors import InputError
from trainer.background import worth_a_thread
from trainer.checkpoint import Checkpointer, Player, Unpublished
from trainer.evaluate import RankingMetrics
from trainer.observer import Observer
from trainer.origin import Origin
from trainer.run_copies import bring_records
from trainer.stage import Cursor, Stage


@dataclass(frozen=True)
class _Pending:
    """A checkpoint that is not published yet."""

    checkpoint: Unpublished
    pointers: Sequence[tuple[str, str]]
    """Names, and the checkpoints that they will point to, in this order."""
    began: float


class Saver:
    """Collects what a checkpoint holds of a run: models, optimisers, sampler, schedule, average, observers and cursor.

    At most one checkpoint is on its way. `publish` ends it: before the next one, before a checkpoint is loaded, and
    before the run ends. Until then the one before it is the last.

    Args:
        players: all models of the run by name.
        manifest: values that a resumed run must share with this one.
    """

    def __init__(
        self,
        checkpointer: Checkpointer,
        players: Mapping[str, Player],
        manifest: Mapping[str, Any],
    ) -> None:
        self.checkpointer = checkpointer
        self.players = players
        self.manifest = manifest
        self.origin: Origin | None = None
        """Where the run begins; None: at the initial values, or at a checkpoint of its own."""
        self.clock = time.monotonic
        self.seconds = 0.0
        """How long the last checkpoint took, from its first byte until it was published."""
        self._ended: float | None = None
        self._pending: _Pending | None = None
        self._saved: str | None = None
        """The name of the last checkpoint saved, or resumed from, in this run's folder."""
        self._run_id: str | None = None
        """The last id that a tracker had, also in a session before this one."""

    def has_saved(self, cursor: Cursor) -> bool:
        """Whether the last checkpoint is of this position."""
        return self._saved == checkpoint_name(cursor)

    @property
    def is_pending(self) -> bool:
        """Whether a checkpoint is on its way. Equal on all ranks."""
        return self._pending is not None

    @property
    def is_writing(self) -> bool:
        """Whether this rank still writes files of the checkpoint that is on its way."""
        return self._pending is not None and not self._pending.checkpoint.writing.is_over

    @property
    def has_failed(self) -> bool:
        """Whether this rank could not write files of the checkpoint that is on its way."""
        return self._pending is not None and self._pending.checkpoint.writing.has_failed

    def seconds_since_last(self) -> float:
        """Seconds since the last checkpoint was published, or since the first call of this method."""
        if self._ended is None:
            self._ended = self.clock()
        return self.clock() - self._ended

    def save(
        self,
        cursor: Cursor,
        stage: Stage | None,
        observers: Sequence[Observer],
        *,
        best: bool,
        run_id: str | None,
        ranking: RankingMetrics | None = None,
        background: bool = False,
    ) -> None:
        """Writes a checkpoint and points "latest" to it. Collective.

        Args:
            stage: the current stage, whose optimisers, sampler, schedule and average are saved; None between stages.
            best: points "best_STAGE" to the checkpoint too.
            run_id: the id that the tracker gave this run; None keeps the id of an earlier session.
            ranking: the ranking of all valid triples by the weights that `Checkpointer.load_trained` will load; None if
                there is none.
            background: let the run go on while the disk takes the checkpoint, if that is worth it; call `publish`
                later.
        """
        self.publish()
        began = self.clock()
        players = {name: Player(player.model, None) for name, player in self.players.items()}
        state: dict[str, Tensor] = {}
        keyed: dict[str, KeyedRows] = {}
        if stage is not None:
            _attach(stage, players)
            state, keyed = stage.sampler.state(), stage.sampler.keyed_rows()
        self._run_id = run_id or self._run_id
        manifest = {"cursor": cursor.as_dict(), "tracker_run_id": self._run_id, **self.manifest}
        manifest["schedule"] = {} if stage is None else stage.schedule.state()
        average = None if stage is None else stage.average
        manifest["average"] = None if average is None else {"name": average.name, **average.state()}
        for observer in observers:
            manifest |= observer.state()
        manifest["ranking"] = None if ranking is None else ranking.as_dict()
        name = checkpoint_name(cursor)
        # "latest" moves after the checkpoint that was set aside has a pointer, so a killed run can still resume.
        aside = (cursor.set_aside or {}).get("best_checkpoint")
        pointers = [("latest", name)]
        if best and stage is not None:
            set_aside = [] if aside is None else [(aside_pointer(stage), aside)]
            pointers = [*set_aside, *pointers, (f"best_{stage.name}", name)]
        files = self.checkpointer.tensors(players, state, keyed)
        # A table on disk is written at once: the page cache has no room for it.
        on_disk = any(player.model.site.storage is not None for player in self.players.values())
        background = background and not on_disk and worth_a_thread(files, self.checkpointer.runtime)
        self._pending = _Pending(self.checkpointer.begin(name, files, manifest, background=background), pointers, began)
        if not background:
            self.publish()

    def publish(self) -> None:
        """Ends the checkpoint that is on its way, if there is one: waits for it, and moves the pointers. Collective.

        Raises:
            InputError: a file cannot be written. Earlier checkpoints stay unchanged.
        """
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        self._saved = self.checkpointer.publish(pending.checkpoint).name
        # The options and metrics first, so that a disk whose pointers have moved has those of that checkpoint.
        bring_records(self.checkpointer.folder.parent, self.checkpointer.disks)
        for pointer, name in pending.pointers:
            self.checkpointer.point(pointer, self.checkpointer.folder / name)
        self._ended = self.clock()
        self.seconds = self._ended - pending.began

    def start(self, stage: Stage) -> None:
        """Prepares a stage for its first step; fills its models and optimisers from the origin, if there is one.

        Collective.

        Raises:
            InputError: the tensors of the origin do not fit this run.
        """
        stage.start()
        if self.origin is not None:
            players = {name: Player(player.model, None) for name, player in self.players.items()}
            _attach(stage, players)
            self.checkpointer.load_grown(self.origin.checkpoint, players, self.origin.renumbering)
            if self.origin.freezes:
                for player in players.values():
                    self.origin.freeze(player.model)

    def resume(
        self, checkpoint: Path, manifest: Mapping[str, Any], stages: Sequence[Stage], observers: Sequence[Observer]
    ) -> Cursor:
        """Restores what `save` wrote, on any number of ranks; returns where the run stands. Collective.

        Raises:
            InputError: the checkpoint is of a run with other values of `manifest`, or its tensors do not fit this run.
        """
        for key, value in self.manifest.items():
            saved = manifest.get(key, "that of an earlier version")
            if saved != value:
                raise InputError(f"resume: {key} is {value} in this run, but {saved} in {checkpoint}")
        if "order" in manifest and "order" not in self.manifest:
            raise InputError(
                f"resume: order is {manifest['order']} in {checkpoint}, but this run has all entities in memory and "
                "shuffles train as a whole (placement.storage)"
            )
        self._run_id = manifest.get("tracker_run_id")
        cursor = Cursor(**manifest["cursor"])
        stage = stages[cursor.stage] if cursor.stage < len(stages) else None
        goes_on = stage is not None and cursor.set_aside is not None and stage.goes_on_from(cursor.stage_step)
        if goes_on:
            cursor.take_up_again()
        for observer in observers:
            observer.load_state(manifest)
        players = {name: Player(player.model, None) for name, player in self.players.items()}
        keyed: dict[str, KeyedRows] = {}
        if stage is not None and cursor.stage_step > 0:
            stage.start()
            stage.schedule.load_state(manifest["schedule"])
            _restore_average(stage, manifest.get("average"), checkpoint)
            _attach(stage, players)
            keyed = stage.sampler.keyed_rows()
        state = self.checkpointer.load(checkpoint, players, keyed)
        if stage is not None:
            self._adopt_best(stage, cursor, checkpoint)
        if stage is not None and cursor.stage_step > 0:
            _load_sampler(stage, state, checkpoint)
            if goes_on and stage.average is not None:
                stage.average.take_up_again()
        if checkpoint.parent.resolve() == self.checkpointer.folder.resolve():
            self._saved = checkpoint.name
        return cursor

    def _adopt_best(self, stage: Stage, cursor: Cursor, checkpoint: Path) -> None:
        """Copies the best checkpoints that the cursor names to this run's folder and points to them."""
        aside = (cursor.set_aside or {}).get("best_checkpoint")
        for pointer, name in ((aside_pointer(stage), aside), (f"best_{stage.name}", cursor.best_checkpoint)):
            if name is not None:
                self.checkpointer.point(pointer, self.checkpointer.adopt(checkpoint.parent / name))
        if aside is None:
            self.checkpointer.drop(aside_pointer(stage))


def checkpoint_name(cursor: Cursor) -> str:
    """The folder of the checkpoint of this position; names sort in the order of saving."""
    # With the stage's number, because the end of a stage and the start of the next have the same step.
    return f"step_{cursor.step:09d}_stage_{cursor.stage}"


def aside_pointer(stage: Stage) -> str:
    """The pointer to the checkpoint that `Cursor.set_aside` names."""
    return f"aside_{stage.name}"


def _attach(stage: Stage, players: dict[str, Player]) -> None:
    """Adds the optimisers of a stage, and the average of the trained model, to the players."""
    players[stage.trained].optimizer = stage.player.optimizer
    if stage.average is not None:
        players[stage.trained].averages = stage.average.saved()
    if stage.sampler.optimizer is not None:
        players["generator"].optimizer = stage.sampler.optimizer


def _restore_average(stage: Stage, saved: Mapping[str, Any] | None, checkpoint: Path) -> None:
    """Restores the numbers of an average, before its weights are loaded. `saved` is None for a run without one."""
    own = None if stage.average is None else stage.average.name
    other = None if saved is None else saved["name"]
    if own != other:
        raise InputError(f"resume: average is {own or 'null'} in this run, but {other or 'null'} in {checkpoint}")
    if stage.average is not None and saved is not None:
        stage.average.load_state(stage.player.model, saved)


def _load_sampler(stage: Stage, state: Mapping[str, Tensor], checkpoint: Path) -> None:
    try:
        stage.sampler.load_state(state)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:  # names, shapes or types of another make
        raise InputError(
            f"resume: {checkpoint} holds a state that the sampler of the {stage.name} stage can't take: "
            f"{str(error).splitlines()[0]}"
        ) from error
