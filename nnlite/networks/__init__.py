"""One file per architecture of the field; build.py turns a Topology into a module."""
