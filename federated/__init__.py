"""Learning where the data are, with Flower."""
