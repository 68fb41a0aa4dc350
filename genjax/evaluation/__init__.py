"""Evaluation of images and models: metrics, thresholds of warnings, and a classifier."""
