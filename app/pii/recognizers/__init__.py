"""Recognizers of personal data for Presidio's AnalyzerEngine, one kind of value per file."""
