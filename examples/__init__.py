"""Real models trained plainly and with the fixes; never imported by the library."""
