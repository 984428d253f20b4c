"""Scores with intervals, calibration, paired comparison, label issues: shared by every learner."""
