"""The functional core of the monitor: closed panes and labels in, verdicts, incidents and charts out; no side effects.

In: a reference, settings, closed panes of counts and matured labels; `now` is an argument. Out: `Watch.step` and
`Watch.learn` return what to publish, `Watch.charts` what to show. State: `WatchState`, named records all the way down.
Invariant: the same reference, settings and panes give the same verdicts bit for bit, live, restarted or replayed; only
numpy, the standard library and stationkeeper.contracts are imported.
Read `watch` with `watch_plan` and `subject_charts`, then the rooms downwards: incidents, ageing, performance, quality,
adoption, charts, detect, panes, reference; `patience` lets what an odd evening or a season explains warn first,
`finding`, `reasons` and `budget` are what they share, `power` says what can be found before it runs.
"""
