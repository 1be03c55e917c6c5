"""What befalls a training patch between the disk and the network: a table of presets, and a file per transform."""
