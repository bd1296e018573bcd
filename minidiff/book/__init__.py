"""The book as a site: `minidiff book`.

`layout` writes the sources of all pages into a folder, from what the repository says already: the chapters, README,
the records, the docstrings. `extension` teaches Sphinx to set formulas and docstrings, `gallery` how to run chapters,
`command` builds. What is written for the site alone lies in `pages/`, its looks in `static/`. Only `extension`,
`gallery` and `command` need the extra `book`, and import it late.
"""
