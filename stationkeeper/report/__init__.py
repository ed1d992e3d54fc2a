"""One self-contained HTML file about a model and a period, and its single plots as SVG or PNG.

In: the topics, the lines of a backtest, or the course of one that has just run. Out: a `Report`, then a file. State:
none. Invariant: the file needs no network and no script, and shows no value of a sensitive feature.
Read `gather` (what happened), `history` (distances and performance over time), `segments` (where a change lies),
`figures`, `page`, `plot_file`.
"""
