"""From evidence to diagnosis: cases, the network, calibration, explanation, the site's store."""
