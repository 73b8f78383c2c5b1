"""Exact tests of counts, for maskers with random numbers of their own (chapter DST)."""
