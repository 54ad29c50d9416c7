"""Evaluators of accuracy that train nothing: published predictors and published results."""
