"""Webhooks for the transitions of rollouts: signed by the Standard Webhooks specification, or as Slack messages.

runtime = Runtime(plugins=[Webhook("https://hooks.example/rollouts", secret="whsec_...")])
"""

from rollout_sdk_notify.webhook import Webhook

__all__ = ["Webhook"]
