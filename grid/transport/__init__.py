"""The aiohttp shell that every daemon shares."""
