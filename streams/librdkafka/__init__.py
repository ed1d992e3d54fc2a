"""The ports over confluent-kafka (the extra `librdkafka`), the other client: `kafka.client: librdkafka`.

In: the same settings. Out: the same promises, held by the same suite.
State: one consumer or producer each. Invariant: as for `streams.kafka`: an error of the library becomes `Retryable` or
`Fatal`; results that its poll does not return are taken from its callbacks.
Nothing here is imported unless the configuration names the client.
Read `clients`, `source`, `sink`, `appender`.
"""
