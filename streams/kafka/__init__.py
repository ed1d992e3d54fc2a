"""The ports over kafka-python, the default client.

In: `KafkaSettings`. Out: `KafkaSource`, `KafkaSink`, `KafkaReader`, `KafkaAppender`, and topics made as they must be.
State: one consumer or producer each. Invariant: an error of the library becomes `Retryable` or `Fatal`, saying what
was being done; a producer that failed is replaced.
Read `clients`, `source` with `membership`, `sink`, `reader`, `appender`, then `topics` and `topic_config`; `fetch`
is the one file that reaches into the library, for speed (docs/adr/read-record-batches-by-columns.md).
"""
