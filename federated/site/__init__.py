"""What runs at a hospital that takes part: its policy, and all that stands between app and hub."""
