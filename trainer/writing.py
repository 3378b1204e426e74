"""Writes the files of a checkpoint that this rank makes, at once or by a thread while training goes on."""

from collections.abc import Sequence
from threading import Thread

from trainer.shard_files import ShardFile
from trainer.tensor_file import TensorFile


class Writing:
    """Files that are being written.

    The thread does not keep the process alive: if the run ends by an error, the checkpoint is not finished, and the one
    before it stays the last.

    Args:
        files: their tensors must stay as they are until the writing is over.
        background: write in a thread; otherwise the files are written when this returns.
    """

    def __init__(self, files: Sequence[TensorFile | ShardFile], *, background: bool) -> None:
        self._files = list(files)
        self._digests: dict[str, str] = {}
        self._error: Exception | None = None
        self._thread: Thread | None = None
        if background:
            self._thread = Thread(target=self._write, name="checkpoint", daemon=True)
            self._thread.start()
        else:
            self._write()

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

    def _write(self) -> None:
        try:
            while self._files:
                file = self._files.pop(0)
                self._digests[file.path.name] = file.write()
        except Exception as error:  # raised again by `wait`, in the thread that asks
            self._error = error
