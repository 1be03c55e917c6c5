"""Decide: numbers in, numbers out, no torch, no files."""
