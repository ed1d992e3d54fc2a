"""Months in which nothing drifts, and shifts among a weekday rhythm: does the budget hold, and is what moves found?

In: made traffic with daily and weekly seasons, days that move by themselves, holidays and bursts. Out: pages and
warnings beside the Poisson limits of their budgets, and hours until a shift pages. State: none; seeds are fixed.
Invariant: what is judged goes through `profile` and `Watch` as production does. Read ``__main__``.
"""
