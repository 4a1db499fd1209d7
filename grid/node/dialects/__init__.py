"""The HTTP of other systems, translated into calls on this node's own services."""
