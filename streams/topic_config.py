"""What a broker keeps of a topic: its effective configuration."""

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from streams.clients import translated


def topic_config(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    """Return the effective configuration of a topic, defaults included; empty when it does not exist."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    with translated(f"read the configuration of {topic}"):
        answer = admin.describe_configs([resource], config_filter="all")
    found = answer.get("topic", {}).get(topic, {})
    return {name: str(entry.get("value")) for name, entry in found.items()}
