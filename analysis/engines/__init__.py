"""Engines that execute the runs of a study: worker processes, Ray, torchrun."""
