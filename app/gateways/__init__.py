"""Wire contracts of other products, translated to and from this guard's own: pure functions, tested as tables."""
