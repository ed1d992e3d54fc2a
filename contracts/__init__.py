"""What crosses a topic, an interface or a restart: messages, identities, names, closed lists, settings and kept state.

In: nothing; this room imports no other. Out: frozen types and pure functions that every room shares.
State: none. Invariant: what is written today is read by the next build: fields are added with defaults, codes,
metrics, reasons and log events are closed lists in one file each, and documents are generated from them
(scripts/docs).
Read `messages`, `topics` and `wire` (what Kafka carries), `codes`, `metrics` and `log_events` (the closed lists),
`status` and `model_status` (what people see), `labels` (what late labels say), then `identity`, `times`, `column`,
`settings`, `state`, `plugins`, `masking`.
"""
