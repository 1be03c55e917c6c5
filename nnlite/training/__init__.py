"""From preprocessed cases to a checkpoint."""
