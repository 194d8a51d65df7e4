"""The console script `tspo-trl`: one module for each subcommand, which [`main`] puts together."""


def one_line(error: Exception) -> str:
    """Return the message of an error in one line, or the name of its class if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__
