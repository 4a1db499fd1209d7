"""Arrays in, arrays out: plans, local training, aggregation. The only room with torch."""
