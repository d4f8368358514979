"""Reports: a comparison, or the life of a pipeline's models, as one HTML page that needs nothing from elsewhere.

`write` makes a comparison's page and `write_figures` its figures as files; `life` has the page of a store. A figure is
drawn once, as SVG (`svg`, `axes`), for the page and for files; a PNG is that SVG, rendered.
"""

from nightfit.report.files import check_figures, write, write_figures

__all__ = ["check_figures", "write", "write_figures"]
