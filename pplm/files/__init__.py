"""How things are read and written: shipped data, tables, figures, whole files or none."""
