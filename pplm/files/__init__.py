"""How things are read, written and shown: rows, tables, figures, atomic writes, the progress bar."""
