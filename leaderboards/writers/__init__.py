"""Writers: one Table becomes Markdown, CSV, HTML, LaTeX or lines in a terminal."""
