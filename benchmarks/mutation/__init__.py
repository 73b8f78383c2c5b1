"""Mutants of the reference itself: small changes of ``mlm_spec`` that some test must notice.

``python -m benchmarks.mutation`` makes them with mutmut, runs the tests on each, and says which
nobody noticed.  Each of these has an explanation in ``explained.toml``, or the command fails.
"""
