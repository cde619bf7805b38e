"""Profiles: what task vectors look like, and where they are in one another's way.

Nothing is merged into a model and nothing is evaluated: profiles explain what scores
cannot. All counts are exact; sums are in float64.
"""
