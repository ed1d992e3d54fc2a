"""The status page: the status of the roles as HTML and SVG drawn on the server.

In: the statuses of the roles on this machine or of its peers. Out: markup, escaped where it is made. State: the last
answer of each peer, for a second. Invariant: what is not known is shown as unknown, never as good.
Read `markup` (HTML as values), `words` (numbers and times for people), `frame`, `axes` and `plots`, then
`fleet_status` (gathers) and the pages: `fleet`, `model`, `subject`, `incident`, `loop`, `canary`; `static` has the one
style sheet, which a report takes too, and the one script.
"""
