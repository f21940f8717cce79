"""Lava Processes: one folder each, with `process.py` (ports and Vars) and `models.py` (what each tag runs)."""
