"""Unit tests of metrics, traces and logs."""
