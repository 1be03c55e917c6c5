"""Make cases ready for the network, and the way back."""
