"""The search for better settings: many short trainings, of which the best go on, and what the result is worth on test data."""
