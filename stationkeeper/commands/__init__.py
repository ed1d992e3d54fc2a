"""The verbs of the command line: each reads its options, calls the room that does the work, and prints the result.

In: options and the configuration's path. Out: text or JSON on stdout, progress and summaries on stderr, an exit code
(see `cli`). State: none. Invariant: a verb imports its room when it is called, so that `--help` and the roles start
fast.
Read `options` (shared by all), then the file of a verb: `loop` (demo, up and the roles), `data` (init, explain,
report, verify, dump, evidently), `profile`, `backtest`, `operate` (check, gate, deployments, requests), `rollout`
(show and drill of deployments), `rejected`, `topics`, `erase`, `plan` (what a load needs).
"""
