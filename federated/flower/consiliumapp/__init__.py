"""What Flower carries from the hub to the sites: two imports of the installed package."""
