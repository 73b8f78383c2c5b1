"""What the suite sees: wrong log-likelihoods that it must reject, at every size of vocabulary."""
