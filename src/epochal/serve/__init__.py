"""A server of models, safe by default: see `server` for how it starts, `app` for what it answers."""
