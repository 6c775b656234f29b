"""Devices and networks: where audio comes from and goes to in a live call."""
