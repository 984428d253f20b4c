"""How long the schema of an answer may be: kept to where schemas are compiled, and said where the API takes them."""

# As JSON. Those of 32,000 characters took 0.2 to 1.3 s to compile; twice as many took up to 6 s, and up to 2.6 s for
# each token, while which all other answers wait.
MOST_SCHEMA_CHARS = 32_768
