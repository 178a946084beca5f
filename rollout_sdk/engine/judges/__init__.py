"""Judges of shadows: a lane of their own, in which they compare the control's answers with candidates'."""
