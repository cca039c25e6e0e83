"""A synthetic cohort of three hospitals, and how it was made."""
