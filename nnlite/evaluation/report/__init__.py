"""The report of a dataset as one HTML file that needs no network: numbers in, a page out.

``contents.py`` is what goes in, ``page.py`` makes the page of it. Templates, style and scripts lie beside.
"""
