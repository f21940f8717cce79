"""Binary weights in front of leaky integrate-and-fire neurons."""
