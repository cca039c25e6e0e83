"""The training of three hospitals under NVFlare, which lives in an environment of its own."""
