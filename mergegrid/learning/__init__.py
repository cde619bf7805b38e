"""Learned merging: coefficients of task vectors, found by gradient descent."""
