"""From a volume and trained networks to a mask."""
