"""Writes the files of a checkpoint that this rank makes; training may go on while the disk takes them."""

from collections.abc import Sequence
from threading import Thread

from trainer.shard_files import ShardFile
from trainer.tensor_file import TensorFile


class Writing:
    """Files that are being written, or were. Their tensors may change as soon as `at_once` or `later` has returned."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}
        self._error: Exception | None = None
        self._thread: Thread | None = None

    @classmethod
    def at_once(cls, files: Sequence[TensorFile | ShardFile]) -> "Writing":
        """Writes files, and waits until they are on the disk."""
        writing = cls()
        try:
            for file in files:
                writing._digests[file.path.name] = file.write()
        except Exception as error:  # raised again by `wait`, so that all ranks learn of it
            writing._error = error
        return writing

    @classmethod
    def later(cls, files: Sequence[TensorFile]) -> "Writing":
        """Hands the bytes of files over to the system; a thread waits until they are on the disk.

        The thread does not keep the process alive: if the run ends by an error, the checkpoint is not finished, and the
        one before it stays the last.
        """
        writing = cls()
        try:
            for file in files:
                file.hand_over()
        except Exception as error:  # raised again by `wait`
            writing._error = error
        else:
            writing._thread = Thread(target=writing._finish, args=(files,), name="checkpoint", daemon=True)
            writing._thread.start()
        return writing

    @property
    def is_over(self) -> bool:
        """Whether all files are written, or one of them could not be."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def has_failed(self) -> bool:
        """Whether a file could not be written."""
        return self._error is not None

    def wait(self) -> dict[str, str]:
        """Waits until the writing is over; returns the SHA-256 of each file by its name.

        Raises:
            OSError: a file could not be written.
        """
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._digests

    def _finish(self, files: Sequence[TensorFile]) -> None:
        try:
            for file in files:
                self._digests[file.path.name] = file.finish()
        except Exception as error:  # raised again by `wait`, in the thread that asks
            self._error = error
