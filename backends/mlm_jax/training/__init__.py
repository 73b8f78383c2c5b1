"""Training in JAX: pure functions over parameters by name (chapters ENC, OPT, TRN and CKP).

`mlm_jax.session.JaxSession` holds what changes; everything here is a function.
"""
