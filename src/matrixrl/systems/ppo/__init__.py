"""Proximal policy optimisation as a system: program, trainer, diagnostics, batch-shape tuning."""
