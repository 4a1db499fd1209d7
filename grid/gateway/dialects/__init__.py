"""The HTTP of other systems, translated into calls on the gateway's own services."""
