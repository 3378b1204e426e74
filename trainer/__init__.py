"""One run: the loop, evaluation, checkpoints, tracking, and the processes it runs on."""
