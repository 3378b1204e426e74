"""What tabulates, plots and writes pages."""
