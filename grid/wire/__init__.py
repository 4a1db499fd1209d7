"""What is said: messages, endpoints and problems, each declared once."""
