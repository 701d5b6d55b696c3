"""Tests of the personal-data room."""
