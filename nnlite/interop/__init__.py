"""Other people's models and layouts, read as they are; leaves: only pipeline and cli import them."""
