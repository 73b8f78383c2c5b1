"""The kill matrix: which requirement rejects which mutant, and by which check."""
