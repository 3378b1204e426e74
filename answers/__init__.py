"""What a trained model answers: the best completions of a triple, similar entities, missing facts."""
