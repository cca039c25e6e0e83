"""What runs at the hub, which passes weights on and averages them, and sees no patient."""
