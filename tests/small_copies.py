"""launch/train.py, except that checkpoints of any size are written while training goes on."""

from launch.early_signals import end_at_signals

if __name__ == "__main__":
    end_at_signals()

import trainer.background
from launch.train import main

if __name__ == "__main__":
    trainer.background.LEAST_BYTES = 0
    main()
