"""Reading runs, and the pages, tables, figures and exports made of them."""
