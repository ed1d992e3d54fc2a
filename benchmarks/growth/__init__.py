"""How events a second and memory grow with columns, models, segments and categories."""
