"""Masks in, numbers out."""
