"""The Messages API of llama-server, held against the documented format and against Anthropic's SDK."""
