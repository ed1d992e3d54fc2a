"""Detectors that are not ours, beside our own: other tools' fixed rules, river's detectors, third parties'.

In: closed panes of one subject. Out: alarms that warn, each with its rule, statistic and threshold.
State: each detector's own, kept with its watch. Invariant: a plug-in spends no false-page budget and cannot page.
Read `port` (what a detector is), `registry` (how it is found), `rules` with `statistics`, `river_detectors`, and
`false_alarms` (what a rule would cost at this traffic).
"""
