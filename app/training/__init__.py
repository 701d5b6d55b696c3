"""Trains every model; needs what `make train` installs and is never imported at run time."""
