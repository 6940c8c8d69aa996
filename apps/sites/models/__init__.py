"""Where work runs: sites, their containers, the nodes that stand there with their GPUs, and the pools of slots they serve."""

from apps.sites.models.burn_ins import BurnIn, GoldenPrompt, PowerCurve, SpeedCurve, known_answer
from apps.sites.models.drains import Drain
from apps.sites.models.feeds import Feed, FeedValue
from apps.sites.models.freezes import Freeze, Listening
from apps.sites.models.gpus import GPU
from apps.sites.models.nodes import EnrolmentToken, Node, NodeEvent
from apps.sites.models.partners import Partner
from apps.sites.models.pools import Deployment, Pool
from apps.sites.models.sites import Container, Site, known_range, known_time_zone

__all__ = [
    "GPU",
    "BurnIn",
    "Container",
    "Deployment",
    "Drain",
    "EnrolmentToken",
    "Feed",
    "FeedValue",
    "Freeze",
    "GoldenPrompt",
    "Listening",
    "Node",
    "NodeEvent",
    "Partner",
    "Pool",
    "PowerCurve",
    "Site",
    "SpeedCurve",
    "known_answer",
    "known_range",
    "known_time_zone",
]
