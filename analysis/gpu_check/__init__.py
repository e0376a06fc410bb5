"""What gpu-check measured, as constants, figures and numbers of the pages."""
