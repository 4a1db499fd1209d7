"""Mailboxes for sealed letters, at a gateway or at a node that agreed to relay; it cannot open what it passes on."""
