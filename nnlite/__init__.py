"""Self-configuring segmentation of medical images."""
