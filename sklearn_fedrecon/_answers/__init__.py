"""What a fitted model is asked for."""
