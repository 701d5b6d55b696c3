"""What the guard is measured with: ways of disguising a text, and how much of it detection still reads."""
