"""Answers of models that write, in OpenAI's words: whole or as a stream of server-sent events."""
