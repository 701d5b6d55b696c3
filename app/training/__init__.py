"""Trains the n-gram branches of detection; needs the `train` dependency group and is never imported at run time."""
