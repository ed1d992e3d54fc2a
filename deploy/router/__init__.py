"""The role serve: answers requests with champion or canary, and logs every answer.

In: HTTP requests (plain JSON, KServe v2), rollout records, models from the registry. Out: answers, prediction events.
State: loaded models and the weights in force, both rebuilt from log and registry. Invariant: no answer from a version
that the record does not name; a weight whose lease has lapsed is zero.
Read `server` and `predict_route` (HTTP), `together` (small requests that share a call of the model), `requests` and
`answers` (what comes and goes), `router`, `traffic` (who answers whom), `follower` (the rollouts topic), `backlog`
(answers that the log does not have yet), `prediction_log`, `answer_counts`, `refusals`.
"""
