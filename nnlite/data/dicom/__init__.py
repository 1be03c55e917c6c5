"""DICOM series as volumes: which files belong together, where their slices lie, and what values they hold."""
