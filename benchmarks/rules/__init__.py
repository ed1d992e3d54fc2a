"""What the shipped rules decide over days and months that nobody can wait for, played through their own cores.

In: simulated traffic, and a year of real departures. Out: how often and when a rule acts, printed, beside what it
promises and what others' rules do. State: none; seeds are fixed. Invariant: no rule is written again here, the daemon's
own code decides.
Each file is a program: `canary` (rollouts, beside other controllers), `power` (the power card against simulation),
`traffic` (what live panes teach of volume), `joint` (relations of features, tails and traces of nulls).
"""
