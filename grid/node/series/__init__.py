"""Series of rounds for devices that come by: who hosts them, who is let in, how one round follows another."""
